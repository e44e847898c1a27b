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

/// Writes an address as its `Display` does; the usual kind without the machinery for formats.
pub fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            let (mut text, mut end) = ([0; "255.255.255.255.".len()], 0);
            for part in ip.octets() {
                for (digit, is_shown) in [(part / 100, part > 99), (part / 10 % 10, part > 9), (part % 10, true)] {
                    // What is not shown is written over.
                    text[end] = b'0' + digit;
                    end += usize::from(is_shown);
                }
                text[end] = b'.';
                end += 1;
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_shown() {
        for text in ["0.0.0.0", "127.0.0.1", "255.10.9.100", "::1", "2001:db8::7", "::ffff:10.0.0.1"] {
            let mut out = Vec::new();
            write_ip(text.parse().unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
