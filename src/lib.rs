//! embedgate
pub mod config;
pub mod directory;
pub mod model;
