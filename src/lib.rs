//! embedgate
pub mod model;
