//! Who may use the admin API: whoever has the token of the configuration. Without one, whoever is on the same machine, and
//! is no page of a browser there.

use crate::config::{Env, KeySource};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use zeroize::Zeroizing;

use super::problem::Problem;

/// The shortest token: 16 characters that nobody can guess are more than anybody can try.
const LEAST: usize = 16;
/// The longest one that is taken.
const MOST: usize = 1024;

/// Why the token cannot be had. Never the token itself.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Its variable is not set.
    #[error("the environment variable {0:?} is not set")]
    Env(String),
    /// It is no token.
    #[error("the token needs {LEAST} to {MOST} characters without spaces; make one with `embedgate key generate`")]
    Form,
}

/// What decides who comes in.
pub struct Door {
    listen: SocketAddr,
    /// Where the token is; read again each time, so that it can be changed.
    token: Option<KeySource>,
    env: Env,
}

impl Door {
    /// The door of a listener at `listen`.
    ///
    /// # Errors
    /// [`TokenError`] when there is to be a token and it cannot be had.
    pub fn new(listen: SocketAddr, token: Option<KeySource>, env: Env) -> Result<Self, TokenError> {
        let door = Self { listen, token, env };
        door.token.as_ref().map(|source| door.read(source)).transpose()?;
        Ok(door)
    }

    /// Whether a request may come in.
    ///
    /// # Errors
    /// The answer for those who may not.
    pub(super) fn admit(&self, fields: &HeaderMap) -> Result<(), Problem> {
        match &self.token {
            Some(source) => {
                let token = self.read(source).map_err(|error| {
                    tracing::error!(%error, "the token of the admin API cannot be read; nobody may use it");
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway cannot read admin.token; see its log")
                })?;
                if has_token(fields, &token) { Ok(()) } else { Err(Problem::unknown()) }
            }
            None => self.admit_neighbour(fields),
        }
    }

    fn admit_neighbour(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
        if !self.listen.ip().is_loopback() {
            return forbidden("the admin listener can be reached from elsewhere: set admin.token to use its API");
        }
        // A page may make a browser ask, also under a name of its own that leads here; then it says so in one of these.
        let is_here = fields.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(is_loopback);
        if !is_here || fields.contains_key(ORIGIN) || fields.contains_key("sec-fetch-site") {
            return forbidden(
                "no page of a browser may use the API; ask http://127.0.0.1 yourself, or set admin.token",
            );
        }
        Ok(())
    }

    fn read(&self, source: &KeySource) -> Result<Zeroizing<String>, TokenError> {
        let text = Zeroizing::new(match source {
            KeySource::File(path) => {
                std::fs::read_to_string(path).map_err(|cause| TokenError::File { path: path.clone(), cause })?
            }
            KeySource::Env(name) => self.env.get(name).cloned().ok_or_else(|| TokenError::Env(name.clone()))?,
        });
        let token = text.trim();
        let is_good = (LEAST..=MOST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_good { Ok(Zeroizing::new(token.to_owned())) } else { Err(TokenError::Form) }
    }
}

fn has_token(fields: &HeaderMap, token: &str) -> bool {
    let mut given = fields.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, given)) = only.to_str().ok().and_then(|text| text.split_once(' ')) else { return false };
    let is_same = aws_lc_rs::constant_time::verify_slices_are_equal(given.trim().as_bytes(), token.as_bytes()).is_ok();
    scheme.eq_ignore_ascii_case("bearer") && is_same
}

/// Whether a `Host` names this machine by an address that leads nowhere else, or by the name that is reserved for it.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn without_a_token_only_who_is_on_this_machine_and_no_page() {
        let local = Door::new("127.0.0.1:9900".parse().unwrap(), None, Env::default()).unwrap();
        for host in ["127.0.0.1:9900", "localhost:9900", "localhost", "127.0.0.1", "[::1]:9900"] {
            assert!(local.admit(&fields(&[("host", host)])).is_ok(), "{host}");
        }
        for wrong in [
            &[("host", "rebound.example:9900")][..],
            &[],
            &[("host", "127.0.0.1.example")],
            &[("host", "localhost"), ("origin", "http://localhost")],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(local.admit(&fields(wrong)).is_err(), "{wrong:?}");
        }
        let open = Door::new("0.0.0.0:9900".parse().unwrap(), None, Env::default()).unwrap();
        assert!(open.admit(&fields(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn with_a_token_only_who_has_it() {
        let env: Env = [("T".to_owned(), "0123456789abcdef\n".to_owned())].into();
        let door = Door::new("0.0.0.0:9900".parse().unwrap(), Some(KeySource::Env("T".into())), env).unwrap();
        let admits = |of: &[(&'static str, &str)]| door.admit(&fields(of)).is_ok();
        assert!(admits(&[("authorization", "Bearer 0123456789abcdef")]));
        for wrong in ["Bearer 0123456789abcdeg", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "Bearer", ""] {
            assert!(!admits(&[("authorization", wrong)]), "{wrong:?}");
        }
        assert!(!admits(&[("host", "localhost")]));
        let short: Env = [("T".to_owned(), "0123456789abcde".to_owned())].into();
        assert!(Door::new("[::1]:1".parse().unwrap(), Some(KeySource::Env("T".into())), short).is_err());
    }
}
