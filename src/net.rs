//! Sockets: plain and TLS streams as one type, dialling upstreams under the address policy, and the gateway's own calls.

pub mod certificates;
pub mod dial;
pub mod handover;
pub mod http;
pub mod io;
pub mod listen;
pub mod manager;
pub mod proxy_protocol;
mod resolve;
pub mod roots;
pub mod tickets;
pub mod tls;
