//! embedgate
pub mod clock;
pub mod live;
pub mod model;
pub mod secret;
pub mod wire;
