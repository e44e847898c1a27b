//! HTTP/1.1 on the wire (RFC 9112): heads and body framing, parsed strictly and without IO.
//!
//! One parser decides what a message is. What goes to the other side is written anew from what was parsed here, never
//! copied, so that two readers cannot disagree about where a message ends.

pub mod body;
mod field_lines;
pub mod fields;
mod head_end;
pub mod request;
pub mod response;
mod scan;
mod start_line;
pub mod trailers;

#[cfg(test)]
mod differential;
