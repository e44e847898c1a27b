//! What runs beside the requests and acts upon the world: it is told of wishes through a bounded channel, and tells of what
//! it has done in the cells of [`crate::live`].

pub mod autostart;
pub mod fleet;
pub mod health;
pub mod pressure;
