//! HTTP on the wire: heads and body framing of HTTP/1.1 (RFC 9112), and what HTTP/2 makes of them (`http2`), parsed strictly and
//! without IO.
//!
//! One parser decides what a message is. What goes to the other side is written anew from what was parsed here, never
//! copied, so that two readers cannot disagree about where a message ends.

pub mod body;
mod field_lines;
pub mod fields;
mod head_end;
pub mod http2;
pub mod request;
pub mod response;
mod scan;
mod start_line;
pub mod trailers;

#[cfg(test)]
mod differential;
