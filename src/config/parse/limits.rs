//! `[limits]`: what a client may use up.

use crate::config::Limits;
use crate::config::reader::Section;

pub(super) fn limits(section: &Section<'_>) -> Limits {
    Limits {
        max_connections: section.or("max_connections", 0, |item| item.integer(0..=10_000_000)),
        http2_streams: section.or("http2_streams", 100, |item| item.integer(1..=1_000)),
        header_bytes: section.or("header_bytes", 32_768, |item| item.integer(4_096..=1_048_576)),
        header_count: section.or("header_count", 100, |item| item.integer(16..=256)),
        header_timeout: section.seconds("header_timeout", 10),
        keep_alive_timeout: section.seconds("keep_alive_timeout", 75),
        body_idle_timeout: section.seconds("body_idle_timeout", 60),
        tls_handshake_timeout: section.seconds("tls_handshake_timeout", 10),
        body_bytes: section.or("body_bytes", 0, |item| item.integer(0..=i128::from(i64::MAX))),
    }
}
