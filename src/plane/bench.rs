//! Steps of a request that are the plane's own, as `benches/micro.rs` measures them and `fuzz/` tries them; nothing else
//! calls this. Each does what the plane does for an app in path mode with a session, and no more.

use super::engine::Leads;
use super::frames::{Follower, Largest};
use super::guard::Origin;
use super::headers::{ToClient, ToUpstream};
use super::outside::Outside;
use crate::live::token::Token;
use crate::model::policy::HostSeen;
use crate::model::upstream::Node;
use crate::model::url::Scheme;
use crate::net::Peer;
use crate::session::Session;
use crate::wire::{request, response};

/// Where a request goes and as whom.
#[derive(Debug)]
pub struct Way<'a> {
    /// The app.
    pub node: &'a Node,
    /// What its paths begin with from outside.
    pub prefix: &'a str,
    /// The principal's.
    pub token: &'a Token,
    /// The user's.
    pub session: &'a Session,
    /// The user's address.
    pub peer: &'a Peer,
}

impl Way<'_> {
    /// Writes the head that the app gets.
    pub fn write_request(&self, head: &request::Head<'_>, out: &mut Vec<u8>) {
        let to_upstream = ToUpstream {
            head,
            node: self.node,
            prefix: self.prefix.len(),
            manner: None,
            host: HostSeen::Own,
            uncompressed: false,
            attributes: false,
            held: None,
            signer: None,
            token: Some(self.token),
            drop_authorization: true,
            drop_referer: false,
            origin: Origin::Absent,
            upgrade: None,
            session: Some(self.session),
            peer: self.peer,
            trusted: false,
            scheme: Scheme::Https,
            request_id: &[b'0'; 32],
        };
        to_upstream.write(out);
    }

    /// Writes the head that the client gets.
    pub fn write_answer(&self, head: &response::Head<'_>, frames: Option<&str>, out: &mut Vec<u8>) {
        let to_client = ToClient {
            head,
            ours: true,
            cookie: None,
            frames,
            outside: Outside { node: Some(&self.node.url), prefix: self.prefix, ..Outside::default() },
            leads: &Leads::AsTold,
            changed: false,
            framing: head.framing,
            trailers: false,
            held: None,
            connection: None,
        };
        to_client.write(out);
    }
}

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub struct Frames(Follower);

impl Frames {
    /// One that refuses frames and messages that are larger; 0 is no limit.
    #[must_use]
    pub fn new(max_frame: u64, max_message: u64) -> Self {
        Self(Follower::new(Largest { frame: max_frame, message: max_message }))
    }

    /// Follows what has been read; says how much of it goes on.
    pub fn follow(&mut self, bytes: &[u8]) -> usize {
        self.0.follow(bytes, false)
    }

    /// Whether a frame of ours may go in here.
    #[must_use]
    pub fn may_insert(&self) -> bool {
        self.0.may_insert()
    }
}
