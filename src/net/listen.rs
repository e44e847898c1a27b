//! Listening sockets: opening them, one for each worker, and closing them so that nobody who has connected is lost.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Sockets that are taken from elsewhere at most: one for each worker, of which there may be 1024, and one for health.
pub const MAX_SOCKETS: usize = 1025;

/// Listening sockets that somebody else has opened.
#[derive(Debug, Default)]
pub struct Listening {
    /// For requests.
    pub data: Vec<TcpListener>,
    /// For health and metrics.
    pub admin: Option<TcpListener>,
}

/// Opens one listening socket for each worker on one address; the kernel spreads connections over them.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Shared only among several workers: otherwise another gateway on the same port would get half of the connections.
    let shared = workers > 1;
    let first = bind_one(address, shared)?;
    // Port 0 becomes a port with the first socket; the others join it there.
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind_one(bound, shared)?);
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Checks that a socket from outside listens, and makes it one that never blocks.
///
/// # Errors
/// When it is something else.
pub fn adopt(socket: TcpListener) -> io::Result<TcpListener> {
    if !SockRef::from(&socket).is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket that does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Has the kernel overlook whoever wants to connect from now on, while handshakes under way go on: when those have been
/// accepted, the socket can be closed without resetting anybody. Says whether it does that here.
#[cfg(target_os = "linux")]
pub fn begin_no_more(socket: &TcpListener) -> bool {
    use socket2::SockFilter;
    // Classic BPF over the TCP header: a segment with SYN and without ACK is dropped.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let overlook = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&overlook).is_ok()
}

/// Other systems have no such means.
#[cfg(not(target_os = "linux"))]
pub fn begin_no_more(_socket: &TcpListener) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    #[test]
    fn who_has_connected_is_accepted_and_nobody_begins_to() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let _before = TcpStream::connect(address).unwrap();
        let overlooks = begin_no_more(&listener);
        assert_eq!(overlooks, cfg!(target_os = "linux"));
        let after = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(after.is_err(), overlooks);
        assert!(listener.accept().is_ok());
        assert_eq!(listener.accept().is_err(), overlooks);
    }

    #[test]
    fn only_what_listens_is_adopted() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap().remove(0);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(adopt(std::os::fd::OwnedFd::from(client).into()).is_err());
        assert!(adopt(listener).is_ok());
    }
}
