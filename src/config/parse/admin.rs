//! The admin listener.

use super::{key_source, keys, socket};
use crate::config::reader::Section;
use crate::config::{Admin, Env};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Its keys.
pub(in crate::config) const KEYS: &[&str] = &["listen", "token"];

/// `admin`, beside a data listener at `data`.
pub(super) fn admin(section: &Section<'_>, data: SocketAddr, env: &Env) -> Admin {
    let listen = section.or("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 9900)), socket);
    if collide(listen, data) {
        let message = format!(
            "{listen} is taken by server.listen = \"{data}\"; write another port, health and metrics stay apart"
        );
        match section.get("listen") {
            Some(item) => item.wrong(message),
            None => section.wrong(message),
        }
    }
    let token = section.optional("token", keys::KEY_SOURCE);
    Admin { listen, token: token.and_then(|token| key_source(&token, env)) }
}

/// Whether two listeners want the same port of the same address. Port 0 means any free port.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` takes the IPv4 addresses too.
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}
