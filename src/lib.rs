//! embedgate
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
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
pub mod wire;
