//! Sockets: plain and TLS streams as one type, and dialling upstreams under the address policy.

pub mod dial;
pub mod io;
mod resolve;
pub mod tls;
