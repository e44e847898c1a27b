//! Ranges of IP addresses in CIDR notation (RFC 4632 3.1, RFC 4291 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses. An IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2) counts as the IPv4 address
/// it stands for, both in the range and in the address asked about: a dual-stack socket reports its peers that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNet {
    /// The first address of the range: every bit beyond the prefix is zero.
    addr: IpAddr,
    /// How many leading bits are fixed: 0 to 32 for IPv4, 0 to 128 for IPv6.
    prefix: u8,
}

/// A text that is neither an address nor a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses; write one such as \"10.0.0.0/8\", \"fd00::/8\" or a single address")]
pub struct InvalidIpNet(String);

impl IpNet {
    /// Parses `address/prefix` or a single address. Bits beyond the prefix are cleared.
    ///
    /// # Errors
    /// [`InvalidIpNet`] when the address or the length of the prefix is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidIpNet> {
        let invalid = || InvalidIpNet(text.to_owned());
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
        let written: IpAddr = addr.parse().map_err(|_| invalid())?;
        let prefix = match prefix {
            None => width(written),
            // `u8::from_str` takes a leading '+', a prefix does not.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| invalid())?,
            Some(_) => return Err(invalid()),
        };
        let addr = written.to_canonical();
        // Of a mapped address the first 96 bits are the mapping; a shorter prefix would reach beyond IPv4.
        let prefix = prefix.checked_sub(width(written) - width(addr)).ok_or_else(invalid)?;
        if prefix > width(addr) {
            return Err(invalid());
        }
        Ok(Self { addr: first(addr, prefix), prefix })
    }

    /// Whether `ip` lies in the range.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.addr.is_ipv4() && first(ip, self.prefix) == self.addr
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The address with every bit beyond the prefix cleared. Shifting by the whole width leaves nothing, hence the checks.
fn first(ip: IpAddr, prefix: u8) -> IpAddr {
    let beyond = u32::from(width(ip) - prefix);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(beyond).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(beyond).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(net: &str, ip: &str) -> bool {
        IpNet::parse(net).unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn ranges_hold_their_first_and_last_address_and_no_more() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("192.168.1.128/25", ["192.168.1.128", "192.168.1.255"], ["192.168.1.127", "192.168.2.0"]),
            ("127.0.0.1", ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", "::1"]),
            ("fd00::/8", ["fd00::", "fdff:ffff::1"], ["fc00::1", "fe00::"]),
            ("::1", ["::1", "0:0::1"], ["::2", "127.0.0.1"]),
            ("0.0.0.0/0", ["255.255.255.255", "::ffff:1.2.3.4"], ["::1", "fd00::1"]),
            ("::/0", ["::1", "ffff::"], ["1.2.3.4", "::ffff:1.2.3.4"]),
            ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1", "::10.1.2.3"]),
        ] {
            assert!(inside.iter().all(|ip| contains(net, ip)), "{net}");
            assert!(!outside.iter().any(|ip| contains(net, ip)), "{net}");
        }
    }

    #[test]
    fn bits_beyond_the_prefix_do_not_matter() {
        assert_eq!(IpNet::parse("10.1.2.3/8"), IpNet::parse("10.0.0.0/8"));
        assert_eq!(IpNet::parse("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(IpNet::parse("::1").unwrap().to_string(), "::1/128");
    }

    #[test]
    fn refuses_what_is_no_range() {
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "host", "10.0.0.0/8/8", "[::1]"]
        {
            assert_eq!(IpNet::parse(text), Err(InvalidIpNet(text.to_owned())), "{text:?}");
        }
        assert!(IpNet::parse("::ffff:10.0.0.0/95").is_err(), "a mapped range wider than IPv4");
    }
}
