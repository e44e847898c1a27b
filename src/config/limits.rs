//! What clients, organisations and the whole of them may use up, and how those wait that are over it.

use crate::model::quota::Quota;
use std::time::Duration;

/// What a client may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections, each stream of HTTP/2 counted as one more; 0 means as many as the limit on file descriptors allows.
    pub max_connections: usize,
    /// Of a connection of HTTP/2.
    pub http2: Http2Limits,
    /// Requests, streams and tunnels under way at once; 0 means no limit.
    pub max_requests: u32,
    /// Memory of the process, in bytes, from which on nothing new is taken; 0 means nine tenths of what the system allows it.
    pub memory: u64,
    /// Size of a request head, in bytes.
    pub header_bytes: usize,
    /// Number of header fields of a request.
    pub header_count: usize,
    /// For a request head to arrive.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub keep_alive_timeout: Duration,
    /// Age at which a connection of HTTP/1.1 is closed after an answer; zero for never.
    pub max_connection_age: Duration,
    /// How long a request body may pause.
    pub body_idle_timeout: Duration,
    /// For a client's TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Size of a request body, in bytes; 0 means no limit.
    pub body_bytes: u64,
    /// Size of a SQL statement with its parameters, in bytes; it is held until its warehouse is known.
    pub statement_bytes: usize,
    /// Size of all bodies that are held at once, in bytes.
    pub held_bytes: usize,
    /// Size of those of one organisation, in bytes.
    pub held_bytes_per_org: usize,
    /// Size of a request body that is held back until it can be signed, in bytes.
    pub signed_body_bytes: usize,
}

/// What a client may use up on one connection of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Limits {
    /// Open streams.
    pub streams: u32,
    /// Bytes that it may send on one stream before they are taken.
    pub stream_window: u32,
    /// Bytes that it may send on all streams together before they are taken; at least those of one stream.
    pub connection_window: u32,
    /// Requests after which it is asked for a new connection.
    pub max_requests: u32,
    /// Age at which it is.
    pub max_age: Duration,
    /// Streams that it may give up before their answers, unless they are less than half of all.
    pub resets: u32,
    /// Streams that it may have opened and reset before they were looked at.
    pub early_resets: usize,
    /// Streams that its own mistakes may make the gateway reset.
    pub faults: usize,
}

/// What organisations and users may have under way, in the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Where the directory says nothing else.
    pub usual: Quota,
    /// About how many users are told apart at once.
    pub users: usize,
}

/// How requests wait that are over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many wait for one upstream, or for the instance.
    pub length: u32,
    /// How many of an organisation wait, wherever that is.
    pub per_org: u32,
    /// How many wait at all.
    pub total: u32,
    /// How long a request for SQL waits.
    pub max_time_sql: Duration,
    /// How long any other request of a program waits.
    pub max_time_api: Duration,
    /// How long a request waits whose answer somebody is to see.
    pub max_time_page: Duration,
}
