//! The PROXY protocol, versions 1 and 2: the header with which a load balancer says whose connection it passes on. Read as
//! its specification has it, <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest header that is taken: what fits into the smallest segment that every host takes (576 - 40 bytes), so that it
/// comes at once (section 2). Version 2 could announce 64 KiB.
const MAX: usize = 536;
/// Longest line of version 1, with its end (section 2.1).
const MAX_LINE: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED: usize = SIGNATURE.len() + 4;
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The peer went away without a word, as checks for an open port do.
    #[error("the connection ended before a PROXY header")]
    Silent,
    /// It is none.
    #[error("the PROXY header {0}")]
    Malformed(&'static str),
    /// The connection broke.
    #[error("the connection broke before the end of the PROXY header: {0}")]
    Broken(#[from] io::Error),
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The peer's own: it checks whether somebody is here, or does not know for whom it connects.
    Peer,
    /// That of the client at this address.
    Client(IpAddr),
}

/// Reads the header that a connection begins with, and nothing behind it.
///
/// # Errors
/// [`ProxyError`]; then nobody knows whose connection it is.
pub async fn read(tcp: &mut TcpStream) -> Result<Source, ProxyError> {
    let mut bytes = vec![0; MAX];
    let mut taken = 0;
    loop {
        let seen = match tcp.peek(&mut bytes[taken..]).await? {
            0 if taken == 0 => return Err(ProxyError::Silent),
            0 => return Err(ProxyError::Malformed("is cut off")),
            more => taken + more,
        };
        let header = parse(&bytes[..seen])?;
        // What is not the end of a header is all part of it. Taken, so that waiting for more does not return at once.
        let end = header.map_or(seen, |(_, length)| length);
        tcp.read_exact(&mut bytes[taken..end]).await?;
        taken = end;
        if let Some((source, _)) = header {
            return Ok(source);
        }
    }
}

/// The source in the header that `bytes` begin with, and the header's length; none when more has to come.
fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, WORD) {
        return line(bytes);
    }
    Err(ProxyError::Malformed("is missing"))
}

/// Whether `bytes` begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// Version 1 (section 2.1).
fn line(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    let line = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.len() == MAX_LINE { Err(ProxyError::Malformed("is too long")) } else { Ok(None) };
    };
    let text = line[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed("has a line end without CR"))?;
    let text = text.strip_prefix(WORD).and_then(|text| std::str::from_utf8(text).ok());
    let source = text.and_then(line_source).ok_or(ProxyError::Malformed("has bad fields"))?;
    Ok(Some((source, end + 1)))
}

/// Protocol, both addresses and both ports, each behind one space.
fn line_source(text: &str) -> Option<Source> {
    let mut fields = text.split(' ');
    let protocol = fields.next()?;
    if protocol == "UNKNOWN" {
        // Whatever follows means nothing.
        return Some(Source::Peer);
    }
    let mut address = || -> Option<IpAddr> {
        let text = fields.next()?;
        match protocol {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    let ports = [fields.next()?, fields.next()?];
    (ports.into_iter().all(is_port) && fields.next().is_none()).then_some(Source::Client(source))
}

/// Version 2 (section 2.2).
fn binary(bytes: &[u8]) -> Result<Option<(Source, usize)>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
    let [command, family, high, low] = fixed[SIGNATURE.len()..] else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX {
        return Err(ProxyError::Malformed("is too long"));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Malformed("has a version or command that is not known")),
    };
    let Some(block) = rest.get(..length) else { return Ok(None) };
    if is_local {
        // Whatever follows means nothing.
        return Ok(Some((Source::Peer, FIXED + length)));
    }
    let not_tcp = ProxyError::Malformed("has an address that is not one of TCP");
    let (ip, additions) = address(family, block).ok_or(not_tcp)?;
    let header = &bytes[..FIXED + length];
    check(header, header.len() - additions.len())?;
    Ok(Some((Source::Client(ip), header.len())))
}

/// The address of a block, and what follows the addresses. TCP over IPv4 and IPv6 only: with no address, which a receiver
/// may refuse, or with that of another kind of socket, the peer would pass for its client, and be believed what only it may
/// say.
fn address(family: u8, block: &[u8]) -> Option<(IpAddr, &[u8])> {
    // Both addresses and both ports.
    match family {
        0x11 => {
            block.split_at_checked(12).and_then(|(ends, rest)| Some((IpAddr::from(*ends.first_chunk::<4>()?), rest)))
        }
        0x21 => {
            block.split_at_checked(36).and_then(|(ends, rest)| Some((IpAddr::from(*ends.first_chunk::<16>()?), rest)))
        }
        _ => None,
    }
}

/// The kind of addition that holds a checksum of the whole header (section 2.2.3).
const CHECKSUM: u8 = 0x03;

/// Goes through the additions to a header of version 2 (TLVs, section 2.2), which begin at `at`, and holds it to its
/// checksum if there is one. All others are passed over, but have to be whole: behind a broken one nobody knows whether
/// there is a checksum.
fn check(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    let broken = || ProxyError::Malformed("has an addition that is cut off");
    let mut checked = false;
    while at < header.len() {
        let [kind, high, low] = *header[at..].first_chunk().ok_or_else(broken)?;
        let (start, length) = (at + 3, usize::from(u16::from_be_bytes([high, low])));
        let value = header[start..].get(..length).ok_or_else(broken)?;
        if kind == CHECKSUM {
            let sum = *value.first_chunk().filter(|_| length == 4 && !checked).ok_or_else(broken)?;
            if crc32c(&[&header[..start], &[0; 4], &header[start + 4..]]) != u32::from_be_bytes(sum) {
                return Err(ProxyError::Malformed("has another checksum than it says"));
            }
            checked = true;
        }
        at = start + length;
    }
    Ok(())
}

/// CRC-32c (RFC 9260 appendix A) of some parts together, bit by bit: headers are short, and few have a checksum.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc));
    !parts.iter().copied().flatten().fold(!0, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    fn client(ip: &str) -> Source {
        Source::Client(ip.parse().unwrap())
    }

    fn v6_block() -> Vec<u8> {
        let ends = ["2001:db8::7", "2001:db8::1"].map(|ip| ip.parse::<Ipv6Addr>().unwrap().octets());
        [&ends.concat()[..], &[0x12, 0x34, 1, 0xbb]].concat()
    }

    /// A header with a checksum between what stands before and behind it.
    fn summed(family: u8, before: &[u8], behind: &[u8]) -> Vec<u8> {
        let mut header = v2(0x21, family, &[before, &[0x03, 0, 4, 0, 0, 0, 0], behind].concat());
        let sum = crc32c(&[&header]);
        let at = header.len() - behind.len() - 4;
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[]), 0);
        assert_eq!(crc32c(&[b"1234", b"", b"56789"]), 0xe306_9283);
        // RFC 7143, appendix A.4: 32 bytes of zeros, and of ones.
        assert_eq!((crc32c(&[&[0; 32]]), crc32c(&[&[0xff; 32]])), (0x8a91_36aa, 0x62a8_ab43));
    }

    #[test]
    fn a_header_that_is_not_what_its_checksum_is_of_is_refused() {
        let header = summed(0x11, V4_BLOCK, &[0x04, 0, 1, 7]);
        assert!(parse(&header).is_ok());
        // What decides on how long the header is, and what kind it is, is told apart before.
        for at in FIXED..header.len() {
            for bit in 0..8 {
                let mut bytes = header.clone();
                bytes[at] ^= 1 << bit;
                // The kind of the checksum itself: then it is an addition like others.
                let is_none = at == FIXED + 12;
                assert_eq!(parse(&bytes).is_ok(), is_none, "bit {bit} of byte {at}");
            }
        }
    }

    const V4_BLOCK: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb];

    /// Headers and whose connection they say it is.
    fn good() -> Vec<(Vec<u8>, Source)> {
        let tlv = |length: usize| {
            let value = length - 3;
            [V4_BLOCK, &[0xee, (value >> 8) as u8, value as u8], &vec![0xee; value]].concat()
        };
        let line = |text: &str| text.as_bytes().to_vec();
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        vec![
            (line("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n"), client("203.0.113.7")),
            (line("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), client("0.0.0.0")),
            (line("PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n"), client("2001:db8::7")),
            (line("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n"), client("::ffff:203.0.113.7")),
            (line(longest), client("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            (line("PROXY UNKNOWN\r\n"), Source::Peer),
            (line("PROXY UNKNOWN ffff::1 what ever 65535\r\n"), Source::Peer),
            (v2(0x21, 0x11, V4_BLOCK), client("203.0.113.7")),
            (v2(0x21, 0x11, &tlv(40)), client("203.0.113.7")),
            (v2(0x21, 0x11, &tlv(MAX - FIXED - 12)), client("203.0.113.7")),
            (v2(0x21, 0x21, &v6_block()), client("2001:db8::7")),
            (v2(0x21, 0x11, &[V4_BLOCK, &[0x04, 0, 0], &[0x01, 0, 1, 9]].concat()), client("203.0.113.7")),
            (summed(0x11, &[V4_BLOCK, &[0x04, 0, 1, 7]].concat(), &[]), client("203.0.113.7")),
            (summed(0x21, &v6_block(), &[0x04, 0, 2, 7, 7]), client("2001:db8::7")),
            (v2(0x20, 0x00, &[]), Source::Peer),
            (v2(0x20, 0x11, V4_BLOCK), Source::Peer),
            (v2(0x20, 0xff, &[1, 2, 3]), Source::Peer),
        ]
    }

    #[test]
    fn headers_are_read_to_their_end_and_no_further() {
        for (header, expected) in good() {
            for behind in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
                let bytes = [&header, behind].concat();
                assert_eq!(parse(&bytes).unwrap(), Some((expected, header.len())), "{}", bytes.escape_ascii());
            }
            for cut in 0..header.len() {
                assert!(parse(&header[..cut]).unwrap().is_none(), "{} cut at {cut}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let mut huge = v2(0x21, 0x11, V4_BLOCK);
        huge[14..16].copy_from_slice(&[0xff, 0xff]);
        let too_long = [V4_BLOCK, &[0; MAX - FIXED - 11]].concat();
        let mut bad = vec![
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00".to_vec(),
            b"\r\n\r\nGET".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            format!("PROXY UNKNOWN {}", "x".repeat(107)).into_bytes(),
            b"PROXY TCP4 203.0.113.\xff 10.0.0.1 1 2\r\n".to_vec(),
            huge,
            v2(0x21, 0x11, &too_long),
            v2(0x11, 0x11, V4_BLOCK),
            v2(0x31, 0x11, V4_BLOCK),
            v2(0x22, 0x11, V4_BLOCK),
            v2(0x21, 0x00, V4_BLOCK),
            v2(0x21, 0x12, V4_BLOCK),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x41, V4_BLOCK),
            v2(0x21, 0x11, &V4_BLOCK[..11]),
            v2(0x21, 0x21, &v6_block()[..35]),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x04]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x04, 0]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x04, 0, 1]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x04, 0xff, 0xff, 0]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x03, 0, 4, 0, 0, 0, 0]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x03, 0, 0]].concat()),
            v2(0x21, 0x11, &[V4_BLOCK, &[0x03, 0, 5, 0, 0, 0, 0, 0]].concat()),
            summed(0x11, &[V4_BLOCK, &[0x03, 0, 4, 0, 0, 0, 0]].concat(), &[]),
        ];
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\n",
            "PROXY\r\n",
            "PROXY  TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "proxy TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP5 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY unknown\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.007 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.7 host 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 01 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\r\n",
        ] {
            bad.push(line.as_bytes().to_vec());
        }
        for bytes in bad {
            assert!(matches!(parse(&bytes), Err(ProxyError::Malformed(_))), "{}", bytes.escape_ascii());
        }
    }

    /// Bytes that neither end nor begin as they should must not make it panic, whatever stands where.
    #[test]
    fn any_byte_may_be_any_other() {
        for (header, _) in good() {
            for at in 0..header.len() {
                for byte in 0..=255 {
                    let mut bytes = header.clone();
                    bytes[at] = byte;
                    if let Ok(Some((_, length))) = parse(&bytes) {
                        assert!(length <= bytes.len());
                    }
                }
            }
        }
    }
}
