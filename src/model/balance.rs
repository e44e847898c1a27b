//! How the requests of an upstream are spread over its clusters and nodes, and what tells these apart for that.

use std::time::Duration;

/// What an upstream wants of the choice of its nodes. The default suits most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// How a node of a cluster is chosen.
    pub strategy: Strategy,
    /// What [`Strategy::Hash`] goes by.
    pub hash_on: HashOn,
    /// Whether a session stays on the node that it came to.
    pub affinity: bool,
    /// How long the share of a node or cluster grows that joins others, zero for not at all; none as for all.
    pub slow_start: Option<Duration>,
}

/// How a node is chosen among those of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Of two picked by chance the one with less under way.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// Of two picked by chance the one that would be done sooner.
    PeakEwma,
    /// Always the same one for the same key, as long as it is there.
    Hash,
}

impl Strategy {
    /// All of them with their names in the directory.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("least-requests", Self::LeastRequests),
        ("round-robin", Self::RoundRobin),
        ("peak-ewma", Self::PeakEwma),
        ("hash", Self::Hash),
    ];

    /// Its name in the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }
}

/// What requests are told apart by where equal ones go to the same node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashOn {
    /// Their session.
    #[default]
    Session,
    /// A field of their head, of this name; without it, their session.
    Header(Box<str>),
}

/// Why a text does not say what to hash on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write \"session\", or \"header:\" with the name of a header field other than Authorization and Cookie")]
pub struct BadHashOn;

impl HashOn {
    const SESSION: &'static str = "session";
    const HEADER: &'static str = "header:";

    /// Reads it as the directory has it.
    ///
    /// # Errors
    /// [`BadHashOn`].
    pub fn parse(text: &str) -> Result<Self, BadHashOn> {
        if text == Self::SESSION {
            return Ok(Self::Session);
        }
        let name = text.strip_prefix(Self::HEADER).ok_or(BadHashOn)?;
        // A field name is a token (RFC 9110 5.6.2). These two hold the session, which is renewed now and then.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_ours = ["authorization", "cookie"].iter().any(|ours| name.eq_ignore_ascii_case(ours));
        let fits = (1..=64).contains(&name.len()) && name.bytes().all(is_token) && !is_ours;
        if fits { Ok(Self::Header(name.into())) } else { Err(BadHashOn) }
    }

    /// As the directory has it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Session => Self::SESSION.to_owned(),
            Self::Header(name) => format!("{}{name}", Self::HEADER),
        }
    }
}

/// The weight of a cluster whose row does not say it.
pub const USUAL_WEIGHT: u32 = 100;
/// The largest weight of a cluster.
pub const MAX_WEIGHT: u32 = 10_000;

/// A number made of some bytes: the same on every instance and after every restart, and spread evenly (FNV-1a, then the
/// finish of SplitMix64). It keeps nobody from choosing bytes for a number.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Spreads a number over all bits (the finish of SplitMix64, Steele et al. 2014).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_session_or_a_field() {
        for (text, expected) in [
            ("session", Some(HashOn::Session)),
            ("header:X-Tenant", Some(HashOn::Header("X-Tenant".into()))),
            ("", None),
            ("Session", None),
            ("header:", None),
            ("header:X Tenant", None),
            ("header:Cookie", None),
            ("header:AUTHORIZATION", None),
            ("query:a", None),
        ] {
            assert_eq!(HashOn::parse(text).ok(), expected, "{text}");
            assert!(expected.is_none_or(|one| one.text() == text), "{text}");
        }
        assert_eq!(HashOn::parse(&format!("header:{}", "x".repeat(65))), Err(BadHashOn));
    }

    #[test]
    fn a_hash_is_what_it_always_was() {
        // Sessions carry parts of it, so that another one would move them all.
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(b"https://a.example"), hash(b"https://a.example"));
        assert_ne!(hash(b"https://a.example"), hash(b"https://b.example"));
    }
}
