//! What is asked for on the command line.

use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Upstream {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The only bearer that is not refused
    #[arg(long)]
    pub(crate) bearer: String,
}

#[derive(Args)]
pub(crate) struct Load {
    /// The proxy
    #[arg(long)]
    pub(crate) target: SocketAddr,
    #[arg(long, default_value = "localhost")]
    pub(crate) host: String,
    #[arg(long, default_value = "/small")]
    pub(crate) path: String,
    /// A field of every request, as "Name: value"; may be repeated
    #[arg(long)]
    pub(crate) header: Vec<String>,
    /// POST with so many bytes in place of GET
    #[arg(long)]
    pub(crate) body: Option<usize>,
    /// Connections, or WebSockets
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Requests a second at random moments, whether those before are answered or not; without it each connection sends
    /// its next request when it has the answer
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Chooses the moments
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long to measure
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// How long to go on before that
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warmup: f64,
    /// TLS 1.3, with a server whose certificate is in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) tls: Option<PathBuf>,
    /// HTTP/2, with so many streams at once on each connection
    #[arg(long, value_name = "STREAMS", conflicts_with_all = ["rate", "body", "websocket", "idle"])]
    pub(crate) http2: Option<usize>,
    /// WebSockets, and on each one message of so many bytes after the other, there and back
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["rate", "body"])]
    pub(crate) websocket: Option<usize>,
    /// Only opens what else would be used, prints `open`, and holds it until standard input ends
    #[arg(long)]
    pub(crate) idle: bool,
    /// Processes whose processor time is the result's, that is the proxy's
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Processes whose processor time belongs to the measurement and not to others on the machine, that is the upstream's
    #[arg(long, value_delimiter = ',')]
    pub(crate) beside: Vec<u32>,
}

#[derive(Args)]
pub(crate) struct Seal {
    /// 32 bytes, in hexadecimal
    #[arg(long)]
    pub(crate) key: String,
    #[arg(long)]
    pub(crate) text: String,
}
