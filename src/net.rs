//! Sockets: plain and TLS streams as one type, dialling upstreams under the address policy, and the gateway's own calls.

pub mod dial;
pub mod http;
pub mod io;
mod resolve;
pub mod tls;
