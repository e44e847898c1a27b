//! embedgate: an authenticating reverse proxy that embeds data apps and SQL warehouses for users who have no account there.
//!
//! A request comes in at [`plane::listener`] and is followed from head to answer in one file, `plane/request.rs`. What it
//! asks for is told by host and path ([`plane::route`]), who asks by a sealed token ([`session`]), and where it goes by a
//! plain function over an immutable snapshot ([`plane::decide`], [`model::snapshot`]). It goes on with the token of a
//! service principal ([`credential`]), and the session stays behind.
//!
//! What runs in requests (plane) never waits for what runs beside them ([`directory::sync`], token keepers, [`admin`]):
//! they meet in the snapshot, which is replaced by one swap, and in the counters and cells of [`live`].
//!
//! Who may import whom, top to bottom: `cli`, `app`, then `plane`, `control` and `admin`, then `session`, `directory` and `credential`,
//! then `model`, then `live`; `wire`, `net`, `config`, [`vault`] and the small leaves serve all. A test reads the sources and holds
//! this true.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod credential;
pub mod demo;
pub mod directory;
pub mod live;
pub mod log;
pub mod metrics;
pub mod model;
pub mod net;
pub mod plane;
pub mod secret;
pub mod session;
pub mod signing;
pub mod vault;
pub mod wire;
