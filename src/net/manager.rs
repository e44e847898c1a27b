//! The service manager that may have started the process, as systemd talks to services: it may hand listening sockets over
//! (`LISTEN_FDS`, `sd_listen_fds(3)`) and may want to hear how the service is (`NOTIFY_SOCKET`, `sd_notify(3)`).

use super::listen::{Listening, MAX_SOCKETS, adopt};
use listenfd::ListenFd;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

/// How a socket for health and metrics is called; all others are for requests.
const ADMIN: &str = "admin";

/// Why the sockets of a service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// One of them is of no use.
    #[error("socket {number} of the service manager (LISTEN_FDS): {cause}; give listening TCP sockets")]
    Socket {
        /// Its number from 1.
        number: usize,
        /// Why.
        cause: io::Error,
    },
    /// How many there are cannot be.
    #[error("the service manager hands over {0:?} sockets (LISTEN_FDS); give 1 to {MAX_SOCKETS}")]
    Count(String),
    /// All of them are for health and metrics.
    #[error("the service manager hands over no socket for requests; only one may be called \"admin\" (LISTEN_FDNAMES)")]
    NoData,
}

/// The listening sockets that came with the process, if any were meant for it. A socket is for health and metrics if it is
/// called so (`FileDescriptorName=admin`), or listens on `admin`. To be asked once, before there are threads.
///
/// # Errors
/// [`ManagerError`].
pub fn sockets(env: &BTreeMap<String, String>, admin: SocketAddr) -> Result<Option<Listening>, ManagerError> {
    let is_ours = env.get("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(std::process::id()));
    let Some(count) = env.get("LISTEN_FDS").filter(|_| is_ours) else { return Ok(None) };
    let wrong = || ManagerError::Count(count.clone());
    let count = count.parse().ok().filter(|count| (1..=MAX_SOCKETS).contains(count)).ok_or_else(wrong)?;
    let mut names = env.get("LISTEN_FDNAMES").map(String::as_str).unwrap_or_default().split(':');
    let (mut given, mut listening) = (ListenFd::from_env(), Listening::default());
    for number in 0..count {
        let failed = |cause| ManagerError::Socket { number: number + 1, cause };
        let taken = given.take_tcp_listener(number).and_then(|socket| socket.map(adopt).transpose()).map_err(failed)?;
        let Some(socket) = taken else { return Err(wrong()) };
        let is_admin = names.next() == Some(ADMIN) || socket.local_addr().map_err(failed)? == admin;
        if is_admin && listening.admin.is_none() {
            listening.admin = Some(socket);
        } else {
            listening.data.push(socket);
        }
    }
    if listening.data.is_empty() { Err(ManagerError::NoData) } else { Ok(Some(listening)) }
}

/// Who wants to hear how the service is.
#[derive(Debug, Clone, Default)]
pub struct Manager(Option<String>);

impl Manager {
    /// The one that the environment names, if it does.
    #[must_use]
    pub fn new(env: &BTreeMap<String, String>) -> Self {
        Self(env.get("NOTIFY_SOCKET").cloned())
    }

    /// Says that requests are served.
    pub fn is_ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the process is about to end.
    pub fn is_stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = send(path, state) {
            tracing::warn!(%error, path, state, "the service manager is not told (NOTIFY_SOCKET)");
        }
    }
}

fn send(path: &str, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read is not waited for.
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    socket.send_to(state.as_bytes(), path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn sockets_for_another_process_are_left_alone() {
        let admin = "127.0.0.1:9900".parse().unwrap();
        assert!(sockets(&env(&[]), admin).unwrap().is_none());
        assert!(sockets(&env(&[("LISTEN_FDS", "1")]), admin).unwrap().is_none());
        assert!(sockets(&env(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]), admin).unwrap().is_none());
        let own = std::process::id().to_string();
        for count in ["0", "-1", "many", "1026"] {
            let refused = sockets(&env(&[("LISTEN_FDS", count), ("LISTEN_PID", &own)]), admin).unwrap_err();
            assert!(refused.to_string().contains("give 1 to 1025"), "{refused}");
        }
    }

    #[test]
    fn the_manager_hears_what_becomes_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let told = || {
            let mut bytes = [0; 64];
            let length = manager.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let service = Manager::new(&env(&[("NOTIFY_SOCKET", path.to_str().unwrap())]));
        service.is_ready();
        assert_eq!(told(), "READY=1");
        service.is_stopping();
        assert_eq!(told(), "STOPPING=1");
        Manager::new(&env(&[])).is_ready();
    }
}
