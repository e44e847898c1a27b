//! `[limits]`: what a client may use up.

use crate::config::reader::{Item, Section};
use crate::config::{Http2Limits, Limits};
use std::time::Duration;

/// Databricks takes 16 MiB of text in a statement; JSON and parameters come on top.
const STATEMENT_BYTES: usize = 17 << 20;

pub(super) fn limits(section: &Section<'_>) -> Limits {
    let statement_bytes = section.or("statement_bytes", STATEMENT_BYTES, |item| item.integer(4_096..=1 << 30));
    let held_bytes = section.or("held_bytes", 256 << 20, |item| {
        let held = item.integer(1 << 20..=1 << 40);
        if held.is_some_and(|held: usize| held < statement_bytes) {
            item.wrong(
                "is less than limits.statement_bytes, so that not even one statement of that size could be held",
            );
        }
        held
    });
    let signed_body_bytes = section.or("signed_body_bytes", 1_048_576, |item| item.integer(0..=1_073_741_824));
    // A quarter, and whatever else is set: enough for one body of each sort.
    let usual = (held_bytes / 4).max(statement_bytes).max(signed_body_bytes.min(held_bytes));
    let held_bytes_per_org = section.or("held_bytes_per_org", usual, |item| {
        let held = item.integer(4_096..=1 << 40);
        if held.is_some_and(|held: usize| held < statement_bytes) {
            item.wrong(
                "is less than limits.statement_bytes, so that no organisation could run a statement of that size",
            );
        }
        if held.is_some_and(|held| held > held_bytes) {
            item.wrong("is more than limits.held_bytes, which is for all organisations together");
        }
        held
    });
    Limits {
        max_connections: section.or("max_connections", 0, |item| item.integer(0..=10_000_000)),
        http2: http2(section),
        header_bytes: section.or("header_bytes", 32_768, |item| item.integer(4_096..=1_048_576)),
        header_count: section.or("header_count", 100, |item| item.integer(16..=256)),
        header_timeout: section.seconds("header_timeout", 10),
        keep_alive_timeout: section.seconds("keep_alive_timeout", 75),
        max_connection_age: section.or("max_connection_age", Duration::from_secs(60 * 60), Item::duration_or_zero),
        body_idle_timeout: section.seconds("body_idle_timeout", 60),
        tls_handshake_timeout: section.seconds("tls_handshake_timeout", 10),
        body_bytes: section.or("body_bytes", 0, |item| item.integer(0..=i128::from(i64::MAX))),
        statement_bytes,
        held_bytes,
        held_bytes_per_org,
        signed_body_bytes,
    }
}

/// The window that a client has before it has heard of another (RFC 9113 6.9.2): it may use that much in any case.
const LEAST_WINDOW: i128 = 65_535;

fn http2(section: &Section<'_>) -> Http2Limits {
    let window = |most: i128| move |item: &Item<'_>| item.integer(LEAST_WINDOW..=most);
    let stream_window = section.or("http2_stream_window", 256 << 10, window(16 << 20));
    let connection_window = section.or("http2_connection_window", 1 << 20, window(64 << 20));
    if connection_window < stream_window {
        let message =
            format!("http2_connection_window is less than http2_stream_window, {stream_window}; write no less");
        match section.get("http2_connection_window") {
            Some(item) => item.wrong(message),
            None => section.wrong(message),
        }
    }
    Http2Limits {
        streams: section.or("http2_streams", 100, |item| item.integer(1..=1_000)),
        stream_window,
        connection_window,
        max_requests: section.or("http2_max_requests", 100_000, |item| item.integer(1..=1_000_000_000)),
        max_age: section.seconds("http2_max_age", 60 * 60),
        resets: section.or("http2_resets", 500, |item| item.integer(1..=1_000_000)),
        early_resets: section.or("http2_early_resets", 20, |item| item.integer(1..=10_000)),
        faults: section.or("http2_faults", 1_024, |item| item.integer(1..=100_000)),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env};
    use std::path::Path;

    #[test]
    fn one_statement_fits_into_what_is_held() {
        let env = Env::from([("K".to_owned(), "00".to_owned())]);
        let parse = |limits: &str| {
            let text = format!("session.keys = [{{ id = 'k1', env = 'K' }}]\n[limits]\n{limits}");
            Config::parse(&text, Path::new("test"), &env).map(|config| config.limits).map_err(|error| error.to_string())
        };
        let fits = parse("statement_bytes = 2000000\nheld_bytes = 2000000").unwrap();
        assert_eq!((fits.statement_bytes, fits.held_bytes), (2_000_000, 2_000_000));
        assert!(parse("held_bytes = 2000000").unwrap_err().contains("limits.held_bytes: is less than"));
        // And of an organisation's share.
        assert_eq!(parse("").unwrap().held_bytes_per_org, 64 << 20);
        assert_eq!(parse("statement_bytes = 2000000\nheld_bytes = 4000000").unwrap().held_bytes_per_org, 2_000_000);
        assert_eq!(parse("signed_body_bytes = 100000000").unwrap().held_bytes_per_org, 100_000_000);
        let little = parse("held_bytes_per_org = 2000000").unwrap_err();
        assert!(little.contains("limits.held_bytes_per_org: is less than"), "{little}");
        let much = parse("held_bytes_per_org = 300000000").unwrap_err();
        assert!(much.contains("limits.held_bytes_per_org: is more than"), "{much}");
    }
}
