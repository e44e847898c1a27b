//! HTTP/2 on the wire (RFC 9113) as a server reads and writes it, without IO: frames, settings, windows, and the compression
//! of fields (RFC 7541).
//!
//! A request becomes a head of HTTP/1.1, which [`super::request`] then parses like any other; an answer that
//! [`super::response`] has parsed is said in HTTP/2.

pub mod answer;
pub mod field;
pub mod frame;
pub mod hpack;
pub mod reason;
pub mod request;
pub mod settings;
pub mod window;
