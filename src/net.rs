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

use std::io::Write;
use std::net::IpAddr;

/// The longest text of an address: eight groups of four digits.
const LONGEST: usize = 39;

/// An address with its text, which is needed for each request and written once for all of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address.
    pub ip: IpAddr,
    text: [u8; LONGEST],
    length: u8,
}

impl Peer {
    /// An address, written as its `Display` does.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        let mut text = [0; LONGEST];
        let mut room = &mut text[..];
        // It is the longest text there can be that there is room for.
        let _ = write!(room, "{ip}");
        let length = (LONGEST - room.len()) as u8;
        Self { ip, text, length }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_shown() {
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
        for text in ["0.0.0.0", "127.0.0.1", "255.10.9.100", "::1", "2001:db8::7", "::ffff:10.0.0.1", longest] {
            assert_eq!(Peer::new(text.parse().unwrap()).text(), text.as_bytes());
        }
    }
}
