//! Engines: backends of any make that speak HTTP, such as Trino, Firebolt and Livy. What may be called of one
//! is everything below its address, or what a list says.

use super::api::{Ambiguous, BadPattern, Pattern, has_one_reading};
use super::ids::PrincipalId;
use super::policy::HostSeen;
use super::tables::UpstreamRow;
use super::upstream::{Principals, Upstream};
use super::url::{BaseUrl, InvalidUrl};
use std::sync::Arc;

/// An engine, as a source delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRow {
    /// What it has in common with apps and warehouses.
    pub upstream: UpstreamRow,
    /// The principal that acts there in place of those of its workspace.
    pub principal: Option<PrincipalId>,
    /// What its clients speak.
    pub manner: Manner,
}

impl EngineRow {
    /// An engine of which no more is known than that no request goes to it.
    #[must_use]
    pub fn useless(upstream: UpstreamRow) -> Self {
        Self { upstream, principal: None, manner: Manner::default() }
    }
}

/// What is said to an engine, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// Where its paths begin; empty for the root, else with a slash in front and none at the end.
    pub base: Box<str>,
    /// What clients and engine say to one another besides HTTP.
    pub dialect: Dialect,
    /// The user it is told, where its dialect tells one.
    pub user: Option<Box<str>>,
    /// The calls that may be made; none for all.
    pub allow: Option<Vec<Pattern>>,
}

/// What the clients of an engine and the engine say to one another about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Nothing that the gateway would have to know.
    #[default]
    Generic,
    /// Answers name the host that the client goes to next.
    Firebolt,
    /// Fields name a user, and answers hold addresses made from the host that was asked.
    Trino,
}

impl Dialect {
    /// All of them with their names in the directory.
    pub const NAMES: [(&'static str, Self); 3] =
        [("generic", Self::Generic), ("firebolt", Self::Firebolt), ("trino", Self::Trino)];

    /// Its name in the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, dialect)| *dialect == self).map_or("", |(name, _)| name)
    }

    /// Whose host its engines see, where nothing else is said.
    #[must_use]
    pub fn host(self) -> HostSeen {
        match self {
            Self::Trino => HostSeen::Outside,
            Self::Generic | Self::Firebolt => HostSeen::Own,
        }
    }
}

/// Why a text is not the address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Its beginning is no origin.
    #[error(transparent)]
    Origin(#[from] InvalidUrl),
    /// The rest is no path, or one with two readings.
    #[error("the path {0:?} has empty, dot or encoded segments, or more than a path")]
    Path(String),
}

/// Splits the address of an engine into its origin and where its paths begin.
///
/// # Errors
/// [`BadAddress`].
pub fn address(text: &str) -> Result<(BaseUrl, Box<str>), BadAddress> {
    let slash = text.find("://").and_then(|at| text[at + 3..].find('/').map(|slash| at + 3 + slash));
    let (origin, path) = text.split_at(slash.unwrap_or(text.len()));
    let origin = BaseUrl::parse(origin)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    match has_one_reading(path) {
        Ok(()) if !path.ends_with('/') => Ok((origin, path.into())),
        _ => Err(BadAddress::Path(path.to_owned())),
    }
}

/// Why a text is not the name of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user is 1 to 255 characters without spaces or letters beyond ASCII")]
pub struct BadUser;

/// Checks the name of a user that an engine is told.
///
/// # Errors
/// [`BadUser`].
pub fn user(text: &str) -> Result<Box<str>, BadUser> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.into()) } else { Err(BadUser) }
}

/// Reads a pattern of an engine's list, such as `GET /v1/statement/*`.
///
/// # Errors
/// [`BadPattern`].
pub fn pattern(text: &str) -> Result<Pattern, BadPattern> {
    Pattern::of_engine(text)
}

/// A call of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The engine's id.
    pub engine: &'a str,
    /// The method, case-sensitive.
    pub method: &'a str,
    /// The path below the engine's address, with a slash in front, and without the query.
    pub path: &'a str,
}

impl<'a> Ask<'a> {
    /// What a method and a path ask of an engine.
    ///
    /// # Errors
    /// [`Ambiguous`] when the engine could read the path differently.
    pub fn of(engine: &'a str, method: &'a str, path: &'a str) -> Result<Self, Ambiguous> {
        has_one_reading(path)?;
        Ok(Self { engine, method, path: if path.is_empty() { "/" } else { path } })
    }
}

/// An engine as the snapshot holds it.
#[derive(Debug)]
pub struct Engine {
    /// What it has in common with apps and warehouses.
    pub upstream: Arc<Upstream>,
    /// Who acts there in place of the principals of its workspace.
    pub own: Option<Principals>,
    /// What is said there, and how.
    pub manner: Manner,
}

impl Engine {
    /// Who acts there.
    #[must_use]
    pub fn principals(&self) -> &Principals {
        self.own.as_ref().unwrap_or(&self.upstream.workspace.principals)
    }

    /// Whether a call of it may be made.
    #[must_use]
    pub fn permits(&self, ask: &Ask<'_>) -> bool {
        let listed = |allow: &Vec<Pattern>| allow.iter().any(|pattern| pattern.is_of(ask.method, ask.path));
        self.manner.allow.as_ref().is_none_or(listed)
    }

    /// Whether it is at this host, and at this port where one is named.
    #[must_use]
    pub fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        let mut nodes = self.upstream.clusters.iter().flat_map(|cluster| &cluster.nodes);
        nodes.any(|node| node.url.host().eq_ignore_ascii_case(host) && port.is_none_or(|port| port == node.url.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_origin_and_a_path() {
        for (text, origin, base) in [
            ("https://trino.example.com", "https://trino.example.com", ""),
            ("https://Trino.example.com:8443/", "https://trino.example.com:8443", ""),
            ("https://knox.example.com/gateway/default/", "https://knox.example.com", "/gateway/default"),
            ("http://[::1]:8123/a", "http://[::1]:8123", "/a"),
        ] {
            let (url, path) = address(text).unwrap();
            assert_eq!((url.to_string().as_str(), &*path), (origin, base), "{text}");
        }
        for text in [
            "",
            "trino.example.com/a",
            "https://u:p@a/b",
            "https://a//",
            "https://a/b//",
            "https://a//b",
            "https://a/../b",
            "https://a/%62",
            "https://a/b?c",
            "https://a/b#c",
            "https://a?b",
            "https://a/b;c",
            "https://a/b\\c",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_of_a_call_has_one_reading() {
        for (path, read) in [("", "/"), ("/", "/"), ("/v1/statement", "/v1/statement"), ("/a/", "/a/")] {
            assert_eq!(Ask::of("e", "GET", path).map(|ask| ask.path), Ok(read));
        }
        for path in ["//", "//a", "/a//b", "/a//", "/..", "/a/../b", "/./a", "/%2e%2e/a", "/a;b", "/a\\b", "/a%2fb"] {
            assert_eq!(Ask::of("e", "GET", path), Err(Ambiguous), "{path}");
        }
    }

    #[test]
    fn a_list_names_methods_and_paths() {
        let is_of = |text, method, path| pattern(text).unwrap().is_of(method, path);
        for (text, method, path, expected) in [
            ("POST /", "POST", "/", true),
            ("POST /", "GET", "/", false),
            ("POST /", "POST", "/a", false),
            ("GET /v1/statement/*", "GET", "/v1/statement/x", true),
            ("GET /v1/statement/*", "GET", "/v1/statement", false),
            ("GET /v1/statement/*", "GET", "/v1/statement/", false),
            ("GET /v1/statement/*", "GET", "/v1/statement/x/y", false),
            ("GET /v1/statement/**", "GET", "/v1/statement/x/y", true),
            ("GET /**", "GET", "/", true),
            ("GET /**", "GET", "/a/b", true),
            ("GET /a/", "GET", "/a", false),
            ("GET /a/", "GET", "/a/", true),
        ] {
            assert_eq!(is_of(text, method, path), expected, "{text}: {method} {path}");
        }
        for text in
            ["", "/", "POST", "POST a", "get /", "GET /a//b", "GET /../a", "GET /%61", "GET /**/a", "GET /{warehouse}"]
        {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
