//! How an app's own addresses and cookies look from outside: the app knows its own host and root, the browser knows the
//! gateway's host and, in path mode, a prefix. Bodies are never looked into.

use super::headers::line;
use crate::model::url::{BaseUrl, Scheme};
use crate::session::carrier::{is_our_cookie, names};
use crate::wire::fields::{Field, Name};

/// Where an app is, from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outside<'a> {
    /// Where it is from inside; none leaves addresses alone.
    pub(super) node: Option<&'a BaseUrl>,
    /// The host by which browsers ask for it, where the app sees that one; else empty.
    pub(super) host: &'a str,
    /// What comes before all its paths from outside and holds the session; empty where that is in a cookie.
    pub(super) link: &'a str,
    /// What its paths begin with inside, and not from outside; empty for its root.
    pub(super) base: &'a str,
    /// What its paths begin with from outside; empty where it has a host of its own.
    pub(super) prefix: &'a str,
    /// Whether the app is told that, and writes its own paths with it.
    pub(super) is_told: bool,
    /// Whether its pages are shown in frames of other sites, where only cookies with the attributes for it come along.
    pub(super) is_framed: bool,
}

impl Outside<'_> {
    /// Passes on a field of an answer whose value is about the app's place, if it is one; says whether it was.
    pub(super) fn pass(&self, field: Field<'_>, out: &mut Vec<u8>) -> bool {
        match field.kind {
            Name::SetCookie => self.set_cookie(field, out),
            Name::Location => self.address(field, 0, out),
            Name::Refresh => self.address(field, refresh_url(field.value), out),
            Name::ServiceWorkerAllowed if self.is_within() => self.scope(field, out),
            Name::ReferrerPolicy if !self.link.is_empty() => {}
            // It would empty what other apps of the host have stored.
            Name::ClearSiteData if !self.prefix.is_empty() => {}
            // What holds for the app's own host does not hold for the gateway's, which other apps may share.
            Name::OwnHostPolicy => {}
            _ => return false,
        }
        true
    }

    /// Passes on an address that begins at `from` within the value: what leads to the app's own host, or from its root,
    /// leads there from outside. Everything else stays as it is.
    fn address(&self, field: Field<'_>, from: usize, out: &mut Vec<u8>) {
        let (before, address) = field.value.split_at(from);
        let Some(path) = self.path(address) else { return line(out, field.name, field.value) };
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        for part in [before, self.link.as_bytes(), self.prefix_for(path), path] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The path, with what follows it, of an address on the app's own host; none for any other.
    fn path<'v>(&self, address: &'v [u8]) -> Option<&'v [u8]> {
        let node = self.node?;
        let rest = match address {
            [b'/', b'/', rest @ ..] => rest,
            // Nothing to add: it stays as it is.
            [b'/', ..] => {
                let stays = self.link.is_empty() && self.base.is_empty() && self.prefix_for(address).is_empty();
                return if stays { None } else { self.without_base(address) };
            }
            _ => without_scheme(address)?,
        };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b'\\')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let own = [node.authority(), node.host(), self.host];
        let is_own = !authority.is_empty() && own.iter().any(|own| authority.eq_ignore_ascii_case(own.as_bytes()));
        match path {
            _ if !is_own => None,
            [b'/', b'/', ..] | [b'\\', ..] => None,
            [b'/', ..] => self.without_base(path),
            [] if self.base.is_empty() => Some(b"/"),
            // A query without a path stands on the root, which cannot be written without copying: left as it is.
            _ => None,
        }
    }

    /// What of a path is below the app's base; none for what leads elsewhere on its host.
    fn without_base<'v>(&self, path: &'v [u8]) -> Option<&'v [u8]> {
        match path.strip_prefix(self.base.as_bytes())? {
            [] => Some(b"/"),
            rest => rest.starts_with(b"/").then_some(rest),
        }
    }

    /// Whether the app is at a path of its host, so that what holds for all of that is not for it to say.
    fn is_within(&self) -> bool {
        !self.link.is_empty() || !self.prefix.is_empty()
    }

    /// The prefix that a path of the app needs: none where the app is told of it, or has found it out.
    fn prefix_for(&self, path: &[u8]) -> &[u8] {
        if self.is_told || self.is_below(path) { b"" } else { self.prefix.as_bytes() }
    }

    /// Whether a path leads to the app from outside as it is.
    fn is_below(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.prefix.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b'#')))
    }

    /// Writes a path of the app as one that reaches nothing but the app. What an app that knows its base says of paths
    /// beyond it is about others, so its own base stands for that.
    fn confine(&self, path: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.link.as_bytes());
        if self.base.is_empty() && (self.prefix.is_empty() || self.is_below(path)) {
            return out.extend_from_slice(path);
        }
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(if self.is_told { b"/" } else { self.without_base(path).unwrap_or(b"/") });
    }

    /// Passes on a cookie that the app sets, for the app's own place: our names are refused, as is a cookie without a name,
    /// which browsers send back as whatever its value looks like. `Domain` would reach other tenants' hosts, and `Path=/`
    /// other apps of a shared one.
    fn set_cookie(&self, field: Field<'_>, out: &mut Vec<u8>) {
        let Some(name) = names(field.value).next().filter(|name| !name.is_empty() && !is_our_cookie(name)) else {
            return;
        };
        // Browsers demand Path=/ of these (RFC 6265bis 4.1.3.2).
        let is_bound = name.len() >= 7 && name[..7].eq_ignore_ascii_case(b"__host-");
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        for (count, part) in field.value.split(|b| *b == b';').enumerate() {
            let mut halves = part.splitn(2, |b| *b == b'=');
            let attribute = halves.next().unwrap_or_default().trim_ascii();
            let value = halves.next().unwrap_or_default().trim_ascii();
            let is = |known: &[u8]| count > 0 && attribute.eq_ignore_ascii_case(known);
            if is(b"domain") || (self.is_framed && (is(b"samesite") || is(b"secure") || is(b"partitioned"))) {
                continue;
            }
            if count > 0 {
                out.push(b';');
            }
            let is_beyond = !self.link.is_empty() || !self.base.is_empty() || !self.is_below(value);
            if is(b"path") && !is_bound && value.starts_with(b"/") && is_beyond {
                out.extend_from_slice(b" Path=");
                self.confine(value, out);
            } else {
                out.extend_from_slice(part);
            }
        }
        if self.is_framed {
            out.extend_from_slice(b"; Secure; SameSite=None; Partitioned");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Passes on how far the app's service worker may reach: no further than the app does.
    fn scope(&self, field: Field<'_>, out: &mut Vec<u8>) {
        if !field.value.starts_with(b"/") {
            return line(out, field.name, field.value);
        }
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        self.confine(field.value, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// What follows `http://` or `https://`.
fn without_scheme(address: &[u8]) -> Option<&[u8]> {
    [Scheme::Http, Scheme::Https].into_iter().find_map(|scheme| {
        let (start, rest) = address.split_at_checked(scheme.as_str().len() + 3)?;
        let name = &start[..scheme.as_str().len()];
        (name.eq_ignore_ascii_case(scheme.as_str().as_bytes()) && start.ends_with(b"://")).then_some(rest)
    })
}

/// Where the address begins in the value of a `Refresh` field, such as `5; url=/next`; the end where there is none.
fn refresh_url(value: &[u8]) -> usize {
    let Some(at) = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url=")) else { return value.len() };
    let quoted = matches!(value.get(at + 4), Some(b'"' | b'\''));
    at + 4 + usize::from(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(outside: Outside<'_>, name: &'static str, value: &'static str) -> String {
        let field = Field::new(name.as_bytes(), value.as_bytes());
        let mut out = Vec::new();
        assert!(outside.pass(field, &mut out), "{name}");
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text).trim_end().to_owned()
    }

    fn by_path(node: &BaseUrl) -> Outside<'_> {
        Outside { node: Some(node), prefix: "/app-proxy/editor", ..Outside::default() }
    }

    #[test]
    fn an_app_that_is_told_its_base_writes_its_own_paths() {
        let node = BaseUrl::parse("https://app.example").unwrap();
        let told = Outside { is_told: true, ..by_path(&node) };
        for (address, passed_on) in [
            ("/app-proxy/editor/x", "/app-proxy/editor/x"),
            ("/x", "/x"),
            ("https://app.example/app-proxy/editor/x", "/app-proxy/editor/x"),
            ("https://app.example", "/"),
            ("https://other.example/x", "https://other.example/x"),
        ] {
            assert_eq!(passed(told, "Location", address), passed_on, "{address}");
        }
        for (cookie, passed_on) in [
            ("a=b; Path=/app-proxy/editor/x", "a=b; Path=/app-proxy/editor/x"),
            ("a=b; Path=/; Secure", "a=b; Path=/app-proxy/editor/; Secure"),
            ("a=b; Path=/app-proxy/editors", "a=b; Path=/app-proxy/editor/"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(passed(told, "Set-Cookie", cookie), passed_on, "{cookie}");
        }
        assert_eq!(passed(told, "Service-Worker-Allowed", "/"), "/app-proxy/editor/");
        assert_eq!(passed(told, "Clear-Site-Data", "x"), "");
    }

    #[test]
    fn an_app_that_sees_the_outside_host_may_name_it() {
        let node = BaseUrl::parse("https://app.example").unwrap();
        let kept = Outside { host: "gate.example:8443", ..by_path(&node) };
        for (address, passed_on) in [
            ("https://gate.example:8443/a", "/app-proxy/editor/a"),
            ("http://Gate.example:8443/a", "/app-proxy/editor/a"),
            ("https://gate.example:8443/app-proxy/editor/a", "/app-proxy/editor/a"),
            ("https://gate.example/a", "https://gate.example/a"),
            ("https://app.example/a", "/app-proxy/editor/a"),
        ] {
            assert_eq!(passed(kept, "Location", address), passed_on, "{address}");
        }
        for address in ["///a", "https:///a"] {
            assert_eq!(passed(by_path(&node), "Location", address), address, "no host is nobody's");
        }
    }

    #[test]
    fn what_begins_at_a_path_inside_begins_at_its_own_outside() {
        let node = BaseUrl::parse("https://knox.example").unwrap();
        let by_path = Outside { node: Some(&node), base: "/gateway/a", prefix: "/engine/e", ..Outside::default() };
        let by_host = Outside { prefix: "", ..by_path };
        for (name, value, on_path, on_host) in [
            ("Location", "/gateway/a/x?y", "/engine/e/x?y", "/x?y"),
            ("Location", "/gateway/a", "/engine/e/", "/"),
            ("Location", "https://knox.example/gateway/a/x", "/engine/e/x", "/x"),
            ("Location", "/gateway/ab", "/gateway/ab", "/gateway/ab"),
            ("Location", "https://knox.example", "https://knox.example", "https://knox.example"),
            ("Set-Cookie", "a=b; Path=/gateway/a", "a=b; Path=/engine/e/", "a=b; Path=/"),
            ("Set-Cookie", "a=b; Path=/gateway/a/x", "a=b; Path=/engine/e/x", "a=b; Path=/x"),
            ("Set-Cookie", "a=b; Path=/gateway", "a=b; Path=/engine/e/", "a=b; Path=/"),
        ] {
            assert_eq!(passed(by_path, name, value), on_path, "{name}: {value}");
            assert_eq!(passed(by_host, name, value), on_host, "{name}: {value}");
        }
    }

    #[test]
    fn addresses_of_the_app_lead_to_it_from_outside() {
        let node = BaseUrl::parse("https://app.example:8443").unwrap();
        for (address, on_path, on_host) in [
            ("/", "/app-proxy/editor/", "/"),
            ("/a?b#c", "/app-proxy/editor/a?b#c", "/a?b#c"),
            ("/app-proxy/editor", "/app-proxy/editor", "/app-proxy/editor"),
            ("/app-proxy/editor/x", "/app-proxy/editor/x", "/app-proxy/editor/x"),
            ("/app-proxy/editors", "/app-proxy/editor/app-proxy/editors", "/app-proxy/editors"),
            ("https://app.example:8443/a", "/app-proxy/editor/a", "/a"),
            ("HTTP://App.example/a", "/app-proxy/editor/a", "/a"),
            ("//app.example:8443/a", "/app-proxy/editor/a", "/a"),
            ("https://app.example:8443", "/app-proxy/editor/", "/"),
            ("https://app.example:8443/app-proxy/editor/a", "/app-proxy/editor/a", "/app-proxy/editor/a"),
        ] {
            assert_eq!(passed(by_path(&node), "Location", address), on_path, "{address}");
            assert_eq!(passed(Outside { prefix: "", ..by_path(&node) }, "location", address), on_host, "{address}");
        }
        for other in [
            "",
            "a/b",
            "?x",
            "#x",
            "https://other.example/a",
            "//other.example/a",
            "https://app.example.evil/a",
            "https://user@app.example:8443/a",
            "https://app.example:8443//evil.example",
            "https://app.example:8443\\evil",
            "https://app.example:8443?x",
            "mailto:app.example",
            "https:/app.example",
        ] {
            assert_eq!(passed(by_path(&node), "Location", other), other, "{other}");
        }
        for (refresh, expected) in [
            ("5", "5"),
            ("5; url=/a", "5; url=/app-proxy/editor/a"),
            ("0;URL='/a'", "0;URL='/app-proxy/editor/a'"),
            ("0; url=https://app.example:8443/a", "0; url=/app-proxy/editor/a"),
            ("0; url=https://other.example/", "0; url=https://other.example/"),
        ] {
            assert_eq!(passed(by_path(&node), "Refresh", refresh), expected);
        }
        assert_eq!(passed(Outside::default(), "Location", "https://app.example:8443/a"), "https://app.example:8443/a");
    }

    #[test]
    fn an_address_with_a_session_leads_everywhere_in_the_app() {
        let node = BaseUrl::parse("https://app.example").unwrap();
        let by_path = Outside { link: "/.embedgate/t/~1.k.x", ..by_path(&node) };
        let by_host = Outside { prefix: "", ..by_path };
        for (name, value, on_path, on_host) in [
            ("Location", "/a", "/.embedgate/t/~1.k.x/app-proxy/editor/a", "/.embedgate/t/~1.k.x/a"),
            ("Location", "https://app.example", "/.embedgate/t/~1.k.x/app-proxy/editor/", "/.embedgate/t/~1.k.x/"),
            ("Location", "a/b", "a/b", "a/b"),
            ("Location", "https://other.example/a", "https://other.example/a", "https://other.example/a"),
            ("Refresh", "0;url=/a", "0;url=/.embedgate/t/~1.k.x/app-proxy/editor/a", "0;url=/.embedgate/t/~1.k.x/a"),
            (
                "Set-Cookie",
                "a=b; path=/",
                "a=b; Path=/.embedgate/t/~1.k.x/app-proxy/editor/",
                "a=b; Path=/.embedgate/t/~1.k.x/",
            ),
            ("Service-Worker-Allowed", "/", "/.embedgate/t/~1.k.x/app-proxy/editor/", "/.embedgate/t/~1.k.x/"),
            ("Referrer-Policy", "unsafe-url", "", ""),
        ] {
            assert_eq!(passed(by_path, name, value), on_path, "{name}: {value}");
            assert_eq!(passed(by_host, name, value), on_host, "{name}: {value}");
        }
        let told = Outside { is_told: true, ..by_path };
        assert_eq!(passed(told, "Location", "/app-proxy/editor/a"), "/.embedgate/t/~1.k.x/app-proxy/editor/a");
        let cookie = "a=b; Path=/.embedgate/t/~1.k.x/app-proxy/editor/";
        assert_eq!(passed(told, "Set-Cookie", "a=b; Path=/"), cookie);
    }

    #[test]
    fn cookies_stay_with_their_app() {
        let node = BaseUrl::parse("https://app.example").unwrap();
        for (cookie, on_path, framed) in [
            ("a=b", "a=b", "a=b; Secure; SameSite=None; Partitioned"),
            ("a=b; Path=/", "a=b; Path=/app-proxy/editor/", "a=b; Path=/; Secure; SameSite=None; Partitioned"),
            (
                "a=b; path=/x; HttpOnly; samesite=Lax",
                "a=b; Path=/app-proxy/editor/x; HttpOnly; samesite=Lax",
                "a=b; path=/x; HttpOnly; Secure; SameSite=None; Partitioned",
            ),
            (
                "a=b; Path=/app-proxy/editor/; Domain=app.example",
                "a=b; Path=/app-proxy/editor/",
                "a=b; Path=/app-proxy/editor/; Secure; SameSite=None; Partitioned",
            ),
            (
                "__Host-a=b; Secure; Path=/",
                "__Host-a=b; Secure; Path=/",
                "__Host-a=b; Path=/; Secure; SameSite=None; Partitioned",
            ),
            (
                "a=; Max-Age=0; SameSite=None; Secure; Partitioned",
                "a=; Max-Age=0; SameSite=None; Secure; Partitioned",
                "a=; Max-Age=0; Secure; SameSite=None; Partitioned",
            ),
            ("embedgate=stolen", "", ""),
            ("=embedgate=stolen", "", ""),
            ("__Host-embedgate-e=x; Path=/", "", ""),
        ] {
            assert_eq!(passed(by_path(&node), "Set-Cookie", cookie), on_path, "{cookie}");
            let on_host = Outside { prefix: "", is_framed: true, ..by_path(&node) };
            assert_eq!(passed(on_host, "Set-Cookie", cookie), framed, "{cookie}");
        }
    }

    #[test]
    fn nothing_of_an_app_holds_for_the_whole_host() {
        let node = BaseUrl::parse("https://app.example").unwrap();
        assert_eq!(passed(by_path(&node), "Service-Worker-Allowed", "/"), "/app-proxy/editor/");
        assert_eq!(passed(by_path(&node), "Service-Worker-Allowed", "/app-proxy/editor/x"), "/app-proxy/editor/x");
        for name in ["Strict-Transport-Security", "Alt-Svc", "Clear-Site-Data"] {
            assert_eq!(passed(by_path(&node), name, "x"), "", "{name}");
        }
    }
}
