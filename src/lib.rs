//! embedgate
pub mod config;
pub mod model;
