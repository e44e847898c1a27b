//! The listener for operators.

use super::KeySource;
use std::net::SocketAddr;

/// The admin listener: health, metrics and the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address and port; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where the token is kept that the admin API asks for; absent means that it answers on loopback addresses alone.
    pub token: Option<KeySource>,
}
