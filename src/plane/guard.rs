//! Requests that other sites make in a user's name. A cookie comes along whoever asks, and SameSite=None lets every site
//! ask, so the gateway tells by Origin and Fetch Metadata who did.

use super::site::is_framed_elsewhere;
use crate::model::frontends::Frontends;
use crate::model::reject::{Class, Reject};
use crate::model::url::Scheme;
use crate::wire::fields::Name;
use crate::wire::request::Head;
use std::sync::Arc;

/// Whom the gateway takes a request with a cookie from.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The scheme browsers see.
    pub scheme: Scheme,
    /// The front ends.
    pub frontends: Arc<Frontends>,
}

/// What an `Origin` field says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There is none.
    Absent,
    /// The page is the app's own.
    Own,
    /// The page is a front end's.
    Frontend,
    /// The page is somebody else's, or hides who it is.
    Foreign,
}

impl Guard {
    /// The same with these front ends, if there are any of somebody's own.
    #[must_use]
    pub fn with(&self, own: Option<Arc<Frontends>>) -> Self {
        Self { scheme: self.scheme, frontends: own.unwrap_or_else(|| Arc::clone(&self.frontends)) }
    }

    /// Whether cookies of the app at this host are to come along in frames of other sites: where front ends show apps, as
    /// with the session's own.
    pub(super) fn cookies_in_frames(&self, authority: &str) -> bool {
        self.frontends.ancestors().is_some() && is_framed_elsewhere(self, authority)
    }

    /// Whose page made a request.
    #[must_use]
    pub fn origin(&self, head: &Head<'_>) -> Origin {
        let Some(origin) = head.fields.first(Name::Origin) else { return Origin::Absent };
        let own = origin
            .strip_prefix(self.scheme.as_str().as_bytes())
            .and_then(|rest| rest.strip_prefix(b"://"))
            .is_some_and(|authority| self.is_own(authority, head.authority.as_bytes()));
        if own {
            Origin::Own
        } else if self.is_frontend(origin) {
            Origin::Frontend
        } else {
            Origin::Foreign
        }
    }

    /// Whether an `Origin` is a front end's, letter by letter.
    #[must_use]
    pub fn is_frontend(&self, origin: &[u8]) -> bool {
        self.frontends.contains(origin)
    }

    /// Browsers leave the scheme's own port out of both; other clients may write it.
    fn is_own(&self, authority: &[u8], host: &[u8]) -> bool {
        let bare = |text: &[u8]| {
            let port = format!(":{}", self.scheme.default_port());
            text.strip_suffix(port.as_bytes()).unwrap_or(text).to_ascii_lowercase()
        };
        authority.eq_ignore_ascii_case(host) || bare(authority) == bare(host)
    }

    /// Refuses what another site asks for by an address that holds a session. Whoever knows it has the session, so this is
    /// for addresses that have got out: no page of another site may use one, and WebSockets are for the app's own.
    ///
    /// # Errors
    /// [`Class::CrossSite`].
    pub fn check_link(&self, head: &Head<'_>) -> Result<(), Reject> {
        let refuse = |cause: &'static str| Err(Reject::new(Class::CrossSite, cause));
        match self.origin(head) {
            Origin::Own => Ok(()),
            Origin::Absent | Origin::Frontend if head.upgrade.is_none() => Ok(()),
            Origin::Foreign => refuse("the Origin is neither the app's own nor a front end's"),
            Origin::Absent | Origin::Frontend => refuse("an upgrade that the app's own page has not asked for"),
        }
    }

    /// Refuses what another site may not ask for with the user's cookie: opening WebSockets, changing anything, and
    /// reading anything but by navigation into a frame or a tab.
    ///
    /// # Errors
    /// [`Class::CrossSite`].
    pub fn check(&self, head: &Head<'_>) -> Result<(), Reject> {
        let refuse = |cause: &'static str| Err(Reject::new(Class::CrossSite, cause));
        match self.origin(head) {
            Origin::Own | Origin::Frontend => return Ok(()),
            Origin::Foreign => return refuse("the Origin is neither the app's own nor a front end's"),
            Origin::Absent => {}
        }
        if head.upgrade.is_some() {
            return refuse("an upgrade with a session cookie and without an Origin");
        }
        let site = head.fields.first(Name::SecFetchSite);
        match site {
            Some(b"same-origin") => Ok(()),
            None | Some(b"none") if head.is_safe() => Ok(()),
            Some(_) if head.is_safe() && is_navigation(head) => Ok(()),
            Some(_) => refuse("Sec-Fetch-Site says that another site asks"),
            None => refuse("a change asked for with a session cookie, without Origin and Sec-Fetch-Site"),
        }
    }
}

/// Whether a browser wants a page for a tab or a frame.
#[must_use]
pub fn is_navigation(head: &Head<'_>) -> bool {
    let dest = head.fields.first(Name::SecFetchDest);
    head.fields.first(Name::SecFetchMode) == Some(b"navigate")
        && matches!(dest, None | Some(b"document" | b"iframe" | b"frame"))
}

/// Whether a browser wants a page for a frame.
#[must_use]
pub fn is_framed(head: &Head<'_>) -> bool {
    matches!(head.fields.first(Name::SecFetchDest), Some(b"iframe" | b"frame"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Limits;

    fn check(method: &str, lines: &str) -> Result<(), Class> {
        check_with(Guard::check, method, lines)
    }

    fn check_with(rule: fn(&Guard, &Head<'_>) -> Result<(), Reject>, method: &str, lines: &str) -> Result<(), Class> {
        let text = format!("{method} / HTTP/1.1\r\nHost: e--acme.apps.example.com\r\n{lines}\r\n");
        let mut positions = Vec::new();
        let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 20 }).unwrap();
        let frontends = Arc::new(Frontends::only("https://app.example.com"));
        let guard = Guard { scheme: Scheme::Https, frontends };
        rule(&guard, &head).map_err(|reject| reject.class)
    }

    const REFUSED: Result<(), Class> = Err(Class::CrossSite);

    #[test]
    fn the_own_page_and_the_front_end_may_do_everything() {
        for origin in
            ["https://e--acme.apps.example.com", "https://e--acme.apps.example.com:443", "https://app.example.com"]
        {
            assert_eq!(check("POST", &format!("Origin: {origin}\r\n")), Ok(()), "{origin}");
            let socket = format!("Origin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
            assert_eq!(check("GET", &socket), Ok(()), "{origin}");
        }
        assert_eq!(check("POST", "Sec-Fetch-Site: same-origin\r\n"), Ok(()));
    }

    #[test]
    fn an_address_with_a_session_is_no_use_to_other_sites() {
        let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let own = "Origin: https://e--acme.apps.example.com\r\n";
        for (method, lines, expected) in [
            ("GET", String::new(), Ok(())),
            ("POST", String::new(), Ok(())),
            ("POST", own.to_owned(), Ok(())),
            ("POST", "Origin: https://app.example.com\r\n".to_owned(), Ok(())),
            ("POST", "Origin: https://evil.example\r\n".to_owned(), REFUSED),
            ("POST", "Origin: null\r\n".to_owned(), REFUSED),
            ("GET", format!("{own}{socket}"), Ok(())),
            ("GET", socket.to_owned(), REFUSED),
            ("GET", format!("Origin: https://app.example.com\r\n{socket}"), REFUSED),
            ("GET", format!("Origin: https://evil.example\r\n{socket}"), REFUSED),
        ] {
            assert_eq!(check_with(Guard::check_link, method, &lines), expected, "{method} {lines}");
        }
    }

    #[test]
    fn other_origins_may_do_nothing() {
        for origin in [
            "https://viz--acme.apps.example.com",
            "http://e--acme.apps.example.com",
            "https://e--acme.apps.example.com.evil.com",
            "https://e--acme.apps.example.com:8443",
            "https://xapp.example.com",
            "null",
            "",
        ] {
            assert_eq!(check("GET", &format!("Origin: {origin}\r\n")), REFUSED, "{origin}");
        }
    }

    #[test]
    fn without_an_origin_fetch_metadata_decides() {
        let navigate = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n";
        assert_eq!(check("GET", navigate), Ok(()));
        assert_eq!(check("POST", navigate), REFUSED);
        assert_eq!(
            check("GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"),
            REFUSED
        );
        let object = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: object\r\n";
        assert_eq!(check("GET", object), REFUSED);
        assert_eq!(check("GET", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n"), REFUSED);
        assert_eq!(check("GET", "Sec-Fetch-Site: none\r\n"), Ok(()));
        assert_eq!(check("GET", ""), Ok(()));
        assert_eq!(check("DELETE", ""), REFUSED);
        assert_eq!(check("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), REFUSED);
    }
}
