//! `[server]`: the data listener, and how it is left.

use super::{certificates, keys, origin, socket};
use crate::config::reader::{Item, Section};
use crate::config::{Env, IpNet, Server};
use crate::model::url::BaseUrl;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn server(section: &Section<'_>, env: &Env) -> Server {
    let listen = section.or("listen", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)), socket);
    let trusted_proxies = section.list("trusted_proxies", |item| item.parsed(IpNet::parse));
    let drain_timeout = section.seconds("drain_timeout", 30);
    Server {
        listen,
        workers: section.or("workers", 0, |item| item.integer(0..=1024)),
        public_url: section
            .get("public_url")
            .and_then(|item| origin(&item))
            .unwrap_or(BaseUrl::localhost(listen.port())),
        proxy_protocol: section.or("proxy_protocol", false, |item| proxy_protocol(item, &trusted_proxies)),
        trusted_proxies,
        http2: section.or("http2", true, Item::boolean),
        tls: section.optional("tls", keys::TLS).map(|tls| certificates::tls(&tls, env)),
        handover: section.get("handover").and_then(|item| handover(&item)),
        drain_delay: section.or("drain_delay", Duration::ZERO, Item::duration_or_zero),
        drain_timeout,
        drain_spread: section.or("drain_spread", drain_timeout / 2, |item| drain_spread(item, drain_timeout)),
    }
}

/// Headers are taken from trusted proxies alone, so without any nobody could connect.
fn proxy_protocol(item: &Item<'_>, trusted: &[IpNet]) -> Option<bool> {
    let is_on = item.boolean()?;
    if is_on && trusted.is_empty() {
        item.wrong_missing("needs trusted_proxies, the addresses of the load balancers that send PROXY headers");
    }
    Some(is_on)
}

/// Longest path of a socket, in bytes: 107 on Linux (unix(7)), with room for what is put behind it while it is made.
const MAX_SOCKET_PATH: usize = 90;

fn handover(item: &Item<'_>) -> Option<PathBuf> {
    let path = item.path()?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        item.wrong(format!("is longer than a socket's path may be; write one of at most {MAX_SOCKET_PATH} bytes"));
    }
    Some(path)
}

/// Who is asked to leave at the end or after it is cut instead.
fn drain_spread(item: &Item<'_>, timeout: Duration) -> Option<Duration> {
    let spread = item.duration_or_zero()?;
    if spread > timeout {
        item.wrong(format!("is longer than server.drain_timeout, {timeout:?}, at the end of which all are cut"));
    }
    Some(spread)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env};
    use std::path::Path;
    use std::time::Duration;

    fn spread(server: &str) -> Result<Duration, String> {
        let env = Env::from([("K".to_owned(), "00".to_owned())]);
        let text = format!("session.keys = [{{ id = 'k1', env = 'K' }}]\n[server]\n{server}");
        let parsed = Config::parse(&text, Path::new("test"), &env);
        parsed.map(|config| config.server.drain_spread).map_err(|error| error.to_string())
    }

    #[test]
    fn websockets_leave_within_half_of_the_drain_unless_it_is_said_otherwise() {
        assert_eq!(spread(""), Ok(Duration::from_secs(15)));
        assert_eq!(spread("drain_timeout = '4s'"), Ok(Duration::from_secs(2)));
        assert_eq!(spread("drain_timeout = '4s'\ndrain_spread = '4s'"), Ok(Duration::from_secs(4)));
        assert_eq!(spread("drain_spread = '0s'"), Ok(Duration::ZERO));
        let refused = spread("drain_timeout = '4s'\ndrain_spread = '5s'").unwrap_err();
        assert!(refused.contains("4: server.drain_spread: is longer than server.drain_timeout, 4s"), "{refused}");
    }
}
