//! Listening sockets on their way from a running process to the next one on the same machine, through a socket in the file
//! system (`SCM_RIGHTS`, unix(7)). Both then have the same sockets, so that there is no moment in which nobody listens.
//!
//! The next one says `GREETING` and is sent every socket, each with one byte that says what it is for, then `ALL`. When
//! it serves it says `READY`, is told `LEAVING`, and owns the path from then on. Whoever vanishes before that has changed
//! nothing.

use super::listen::{Listening, MAX_SOCKETS, adopt};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::geteuid;
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// What the next process begins with; the number changes with what is said here.
const GREETING: &[u8] = b"embedgate handover 1\n";
/// A socket for requests comes with this byte.
const DATA: u8 = b'd';
/// The socket for health and metrics.
const ADMIN: u8 = b'a';
/// There are no more sockets.
const ALL: u8 = b'.';
/// The next process serves.
const READY: u8 = b'R';
/// The running process leaves.
const LEAVING: u8 = b'L';
/// How long either side waits for a word that the other one owes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why sockets do not come over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The path cannot be used.
    #[error("{path}: {cause}")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Something else is at the path, which must not be replaced.
    #[error("{0} exists and is no socket; remove it or name another path")]
    NotASocket(PathBuf),
    /// A process of somebody else, who could hand over any socket.
    #[error("{path} belongs to a process of user {uid}; it has to run as the same user as this one, or as root")]
    Stranger {
        /// The path.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It does not speak as it should, or not in time.
    #[error(
        "the process at {path} hands nothing over: {cause}; is it an embedgate of another version, or is another one \
         taking over from it right now?"
    )]
    Silent {
        /// The path.
        path: PathBuf,
        /// What happened.
        cause: io::Error,
    },
}

/// The running process, which waits to hear that this one serves.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    path: PathBuf,
}

/// Asks the process at `path` for its listening sockets; none when nobody runs there.
///
/// # Errors
/// [`HandoverError`]; the running process goes on.
pub async fn ask(path: &Path) -> Result<Option<(Listening, Predecessor)>, HandoverError> {
    let failed = |cause| HandoverError::Path { path: path.to_owned(), cause };
    let mut stream = match UnixStream::connect(path).await {
        // Nobody ever was there, or one that ended without a word.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        connected => connected.map_err(failed)?,
    };
    let peer = stream.peer_cred().map_err(failed)?;
    if !is_ours(peer.uid()) {
        return Err(HandoverError::Stranger { path: path.to_owned(), uid: peer.uid() });
    }
    let taken = in_time(take(&mut stream)).await;
    let taken = taken.map_err(|cause| HandoverError::Silent { path: path.to_owned(), cause })?;
    Ok(Some((taken, Predecessor { stream, path: path.to_owned() })))
}

async fn take(stream: &mut UnixStream) -> io::Result<Listening> {
    stream.write_all(GREETING).await?;
    let mut taken = Listening::default();
    for _ in 0..=MAX_SOCKETS {
        match stream.async_io(Interest::READABLE, || receive(stream)).await? {
            (ALL, None) if !taken.data.is_empty() => return Ok(taken),
            (DATA, Some(socket)) => taken.data.push(adopt(socket.into())?),
            (ADMIN, Some(socket)) => taken.admin = Some(adopt(socket.into())?),
            _ => break,
        }
    }
    Err(not_understood())
}

impl Predecessor {
    /// Ready when the running process is gone, so that nobody serves; it owes no word before that.
    pub async fn gone(&mut self) {
        let _ = self.stream.read_u8().await;
    }

    /// Tells the running process that this one serves, upon which it leaves.
    ///
    /// # Errors
    /// When it does not confirm that, so that it has ended already or does not leave.
    pub async fn relieve(mut self) -> Result<(), HandoverError> {
        let told = async {
            self.stream.write_u8(READY).await?;
            if self.stream.read_u8().await? == LEAVING { Ok(()) } else { Err(not_understood()) }
        };
        in_time(told).await.map_err(|cause| HandoverError::Silent { path: self.path, cause })
    }
}

async fn in_time<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what it says is not understood")
}

/// The path at which the next process asks. Dropping it removes the file, unless another process has it by then.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// The file is here until the door is opened.
    prepared: Option<PathBuf>,
    /// Device and number of the file; none once it is another process's affair.
    file: Option<(u64, u64)>,
}

impl Door {
    /// Makes the socket beside its path, so that whatever could fail has not when [`Door::open`] is called. Called on a
    /// runtime.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn prepare(path: &Path) -> Result<Self, HandoverError> {
        let failed = |cause| HandoverError::Path { path: path.to_owned(), cause };
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => return Err(HandoverError::NotASocket(path.to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        let made = fs::set_permissions(&beside, Permissions::from_mode(0o600)).and_then(|()| identity(&beside));
        let file = made.map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), prepared: Some(beside), file: Some(file) })
    }

    /// Puts the socket in its place, instead of whichever was there.
    ///
    /// # Errors
    /// When it cannot be put there.
    pub fn open(&mut self) -> Result<(), HandoverError> {
        let Some(beside) = &self.prepared else { return Ok(()) };
        let moved = fs::rename(beside, &self.path);
        moved.map_err(|cause| HandoverError::Path { path: self.path.clone(), cause })?;
        self.prepared = None;
        Ok(())
    }

    /// Leaves the path to the next process, which may be putting its own socket there right now.
    pub fn leave(mut self) {
        self.file = None;
    }

    /// Waits for the next process, gives it the sockets, and waits until it serves. `lent` says whether somebody else has
    /// them.
    ///
    /// # Errors
    /// Why somebody who came did not take over, in words for the log.
    pub async fn successor(&self, sockets: &Listening, lent: &AtomicBool) -> io::Result<Successor> {
        let (mut stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        if !is_ours(peer.uid()) {
            let refused = format!("a process of user {} is given no listening sockets", peer.uid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
        }
        let mut greeting = [0; GREETING.len()];
        in_time(stream.read_exact(&mut greeting)).await?;
        if greeting != GREETING {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a process of another version asks for the sockets",
            ));
        }
        // Stays so if this is not waited for to the end: somebody has them then.
        lent.store(true, Ordering::SeqCst);
        let pid = peer.pid().unwrap_or_default();
        if serves(&mut stream, sockets, pid).await {
            return Ok(Successor { stream, pid });
        }
        lent.store(false, Ordering::SeqCst);
        Err(io::Error::other(format!("process {pid} ended before it was ready")))
    }
}

/// Gives the sockets, and waits however long it takes until that process serves: it may wait for a database, and this one
/// serves meanwhile. False when it ends before.
async fn serves(stream: &mut UnixStream, sockets: &Listening, pid: i32) -> bool {
    if in_time(give(stream, sockets)).await.is_err() {
        return false;
    }
    tracing::info!(pid, "another process has the listening sockets too; this one leaves when that one serves");
    matches!(stream.read_u8().await, Ok(READY))
}

impl Drop for Door {
    fn drop(&mut self) {
        let path = self.prepared.as_ref().unwrap_or(&self.path);
        if self.file.is_some() && identity(path).ok() == self.file {
            // What stays is replaced by the next process.
            let _ = fs::remove_file(path);
        }
    }
}

/// The next process, which serves.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    /// Its number.
    pub pid: i32,
}

impl Successor {
    /// Confirms that this process leaves.
    pub async fn confirm(mut self) {
        // Without the word it serves as well.
        let _ = in_time(self.stream.write_u8(LEAVING)).await;
    }
}

async fn give(stream: &UnixStream, sockets: &Listening) -> io::Result<()> {
    for socket in &sockets.data {
        send(stream, DATA, Some(socket)).await?;
    }
    if let Some(socket) = &sockets.admin {
        send(stream, ADMIN, Some(socket)).await?;
    }
    send(stream, ALL, None).await
}

/// Sends a byte, and a socket with it.
async fn send(stream: &UnixStream, what: u8, socket: Option<&TcpListener>) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let socket = socket.map(AsFd::as_fd);
        if let Some(socket) = &socket
            && !control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(socket)))
        {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(sendmsg(stream, &[IoSlice::new(&[what])], &mut control, SendFlags::empty()).map(drop)?)
    };
    stream.async_io(Interest::WRITABLE, send).await
}

/// Receives a byte, and a socket if one comes with it.
fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RECEIVE)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut socket = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            socket = sockets.last();
        }
    }
    Ok((byte[0], socket))
}

/// What tells one file from all others.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// No program that this process might start gets the sockets.
#[cfg(target_os = "linux")]
const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;
/// Other systems have no such flag, and this process starts no program.
#[cfg(not(target_os = "linux"))]
const RECEIVE: RecvFlags = RecvFlags::empty();

/// Whether a process of this user may give and take sockets: who runs as the same user, or as root, could take them anyway.
fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}
