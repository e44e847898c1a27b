//! What changes with every request and therefore is not part of the snapshot: counters and current tokens. A new snapshot
//! takes these over from the old one by id.

pub mod adaptive;
pub mod autostart;
pub mod cluster;
pub mod fleet;
pub mod gate;
pub mod held;
pub mod node;
pub mod place;
pub mod pressure;
pub mod quota;
pub mod ramp;
pub mod token;
pub mod upstream;
