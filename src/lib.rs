//! embedgate
pub mod demo;
pub mod model;
