//! Hosts with or without a port, as they stand in URLs and in Host fields. Each request is asked for these, so they are read
//! byte by byte: to look for a `char` costs several times as much.

use std::net::Ipv6Addr;

/// Splits `host[:port]`, `[v6][:port]`. The host comes without brackets; nothing else is checked.
#[must_use]
pub fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if after.is_empty() { Some((host, None)) } else { Some((host, Some(port(after.strip_prefix(':')?)?))) };
    }
    match authority.bytes().position(|b| b == b':') {
        Some(colon) => Some((&authority[..colon], Some(port(&authority[colon + 1..])?))),
        None => Some((authority, None)),
    }
}

/// A port is digits alone: `u16::from_str` takes a leading '+' too (RFC 3986 3.2.3).
fn port(digits: &str) -> Option<u16> {
    let number = digits.bytes().try_fold(0u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|_| !digits.is_empty())
}

/// Whether a text is a host with or without a port, as it stands in a Host field (RFC 9110 7.2).
#[must_use]
pub fn is_authority(text: &str) -> bool {
    if text.starts_with('[') {
        return split_authority(text).is_some();
    }
    match name_end(text.as_bytes()) {
        Some(end) if end == text.len() => true,
        Some(end) => text.as_bytes()[end] == b':' && port(&text[end + 1..]).is_some(),
        None => false,
    }
}

/// Whether `host` (lower case) is an IP address or a DNS name of letters, digits, hyphens and underscores.
#[must_use]
pub fn is_host(host: &str) -> bool {
    // An IPv4 address has the form of a name, and every IPv6 address has a colon.
    name_end(host.as_bytes()) == Some(host.len()) || host.parse::<Ipv6Addr>().is_ok()
}

/// Which bytes may stand in the label of a name.
const LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-');
        byte += 1;
    }
    table
};

/// Where the name ends with which `bytes` begin: at the first byte that is none of a name's. The name is of up to 253 bytes,
/// in labels of up to 63 letters, digits, hyphens and underscores, none of which begins or ends with a hyphen.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        let label = end;
        while bytes.get(end).is_some_and(|byte| LABEL[usize::from(*byte)]) {
            end += 1;
        }
        if end == label || end - label > 63 || bytes[label] == b'-' || bytes[end - 1] == b'-' {
            return None;
        }
        if bytes.get(end) != Some(&b'.') {
            return (end <= 253).then_some(end);
        }
        end += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        let (label, long) = ("a".repeat(63), ["a"; 127].join("."));
        for host in ["a", "A-b_c.9", "_x", "1.2.3.4", "999.1", "::1", "2001:db8::1", "::ffff:1.2.3.4", &label, &long] {
            assert!(is_host(host), "{host:?}");
        }
        let (longer, many) = ("a".repeat(64), format!("{long}.a"));
        for other in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a-.b", "a b", "a:1", "[::1]", "::g", "é", &longer, &many]
        {
            assert!(!is_host(other), "{other:?}");
        }
    }

    #[test]
    fn authorities_are_hosts_with_or_without_a_port() {
        for (text, parts) in [
            ("a", Some(("a", None))),
            ("a.b:0", Some(("a.b", Some(0)))),
            ("a:00065535", Some(("a", Some(65535)))),
            ("[::1]", Some(("::1", None))),
            ("[::1]:8080", Some(("::1", Some(8080)))),
            ("a:65536", None),
            ("a:", None),
            ("a:+1", None),
            ("a:1:2", None),
            ("[::1", None),
            ("[::1]:", None),
            ("[::1]1", None),
            ("[a]", None),
            ("[::1%1]", None),
        ] {
            assert_eq!(split_authority(text), parts, "{text:?}");
            assert_eq!(is_authority(text), parts.is_some(), "{text:?}");
        }
        for split_only in ["", ":1", "a b", "-a:1", "a..b", "a_b-:1", "u@a", "::1"] {
            assert!(!is_authority(split_only), "{split_only:?}");
        }
    }
}
