//! Probes: how the gateway asks the nodes of an upstream whether they are well.

use std::fmt;
use std::time::Duration;

/// How the nodes of an upstream are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is tried.
    pub kind: ProbeKind,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// Good probes in a row that bring a node back.
    pub healthy: u32,
    /// Bad ones in a row that take it out.
    pub unhealthy: u32,
}

impl Probe {
    /// What holds where nothing else is said.
    #[must_use]
    pub fn usual(kind: ProbeKind) -> Self {
        Self { kind, interval: Duration::from_secs(10), timeout: Duration::from_secs(2), healthy: 2, unhealthy: 3 }
    }
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// A GET without a credential.
    Http {
        /// Of what, with the query.
        path: Box<str>,
        /// The answers that are good.
        expect: Statuses,
    },
    /// A connection, with its TLS handshake where there is one.
    Tcp,
}

/// Status codes, such as `200-299,401`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Box<[(u16, u16)]>);

/// Why a text is not a list of status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of status codes; write one such as \"200-399\" or \"200,204,401\"")]
pub struct InvalidStatuses;

/// Why a text is not the path of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a path; write one such as \"/healthz\", in ASCII and without a fragment")]
pub struct InvalidPath;

/// Longest path of a probe.
const MAX_PATH: usize = 1000;
/// Most parts of a list of status codes.
const MAX_STATUSES: usize = 16;

impl Default for Statuses {
    fn default() -> Self {
        Self(Box::new([(200, 399)]))
    }
}

impl Statuses {
    /// Reads a list.
    ///
    /// # Errors
    /// [`InvalidStatuses`].
    pub fn parse(text: &str) -> Result<Self, InvalidStatuses> {
        let code = |text: &str| {
            let code = text.parse().ok().filter(|code| (100..=599).contains(code) && text.len() == 3);
            code.ok_or(InvalidStatuses)
        };
        let part = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (code(first)?, code(last)?);
            if first <= last { Ok((first, last)) } else { Err(InvalidStatuses) }
        };
        let parts = text.split(',').map(part).collect::<Result<Box<[_]>, _>>()?;
        if parts.len() > MAX_STATUSES { Err(InvalidStatuses) } else { Ok(Self(parts)) }
    }

    /// Whether a code is one of them.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&code))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

/// Reads the path of a probe.
///
/// # Errors
/// [`InvalidPath`].
pub fn path(text: &str) -> Result<Box<str>, InvalidPath> {
    // A reader of URLs takes no other characters where the path is to be sent.
    let is_good = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
    let is_path = text.starts_with('/') && text.len() <= MAX_PATH && text.bytes().all(is_good);
    if is_path { Ok(text.into()) } else { Err(InvalidPath) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_codes_and_ranges() {
        for text in ["200-399", "200", "200,204,401", "100-599", "200-299,500-503"] {
            assert_eq!(Statuses::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "20", "99", "600", "0200", "+200", "200-", "300-200", "200, 201", "2xx", "200,"] {
            assert_eq!(Statuses::parse(text), Err(InvalidStatuses), "{text:?}");
        }
        assert!(Statuses::parse(&vec!["200"; 17].join(",")).is_err());
        let codes = Statuses::parse("200-299,401").unwrap();
        assert!(codes.contains(200) && codes.contains(299) && codes.contains(401));
        assert!(!codes.contains(300) && !codes.contains(400) && !Statuses::default().contains(400));
    }

    #[test]
    fn paths_are_sent_as_they_are() {
        for text in ["/", "/healthz", "/a/b?c=d&e=%20", "/~x:y@z"] {
            assert_eq!(path(text).as_deref(), Ok(text));
        }
        for text in ["", "healthz", "/a b", "/a#b", "/\r\n", "/ä", "/\"", &format!("/{}", "x".repeat(1000))] {
            assert_eq!(path(text), Err(InvalidPath), "{text:?}");
        }
    }
}
