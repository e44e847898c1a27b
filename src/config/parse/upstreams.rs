//! `[upstreams]`: which hosts may be reached, and how.

use super::{certificates, health, host};
use crate::config::Upstreams;
use crate::config::reader::{Item, Section};
use crate::model::quota::MAX_LIMIT;
use crate::model::url::{AllowedHosts, is_loopback_name};
use std::net::IpAddr;
use std::time::Duration;

/// Nodes that one request may be tried on at most: each is remembered with the request.
const MOST_TRIES: i128 = 8;

/// `has_fleet` says that instances hear of one another.
pub(super) fn upstreams(section: &Section<'_>, has_fleet: bool) -> Upstreams {
    let private = section.or("allow_private_addresses", false, Item::boolean);
    let limit = |key, least: i128, usual| section.or(key, usual, |item| item.integer(least..=i128::from(MAX_LIMIT)));
    let (adaptive_min, adaptive_max) = (limit("adaptive_min", 1, 4), limit("adaptive_max", 1, 1000));
    if adaptive_max < adaptive_min {
        let message = format!("is less than upstreams.adaptive_min, {adaptive_min}; write no less");
        section.get("adaptive_max").or(section.get("adaptive_min")).into_iter().for_each(|item| item.wrong(&*message));
    }
    let upgrades = section.get("upgrades").map(|item| item.items().iter().filter_map(upgrade).collect());
    Upstreams {
        allowed: AllowedHosts {
            domains: section.list("allowed_domains", |item| allowed_domain(item, private)),
            private,
        },
        ca_file: section.get("ca_file").and_then(|item| item.path()),
        client: certificates::client(section),
        connect_timeout: section.seconds("connect_timeout", 5),
        try_timeout: section.seconds("try_timeout", 2),
        max_tries: section.or("max_tries", 3, |item| item.integer(1..=MOST_TRIES)),
        health: health::health(&section.section("health", health::HEALTH), has_fleet),
        circuit: health::circuit(&section.section("circuit", health::CIRCUIT)),
        first_byte_timeout: section.seconds("first_byte_timeout", 180),
        idle_timeout: section.seconds("idle_timeout", 300),
        ping_interval: section.or("ping_interval", Duration::from_secs(25), Item::duration_or_zero),
        pool_idle_timeout: section.seconds("pool_idle_timeout", 30),
        pool_max_idle: section.or("pool_max_idle", 64, |item| item.integer(0..=100_000)),
        retry_budget: section.or("retry_budget", 200, Item::thousandths),
        slow_start: section.or("slow_start", Duration::from_secs(60), Item::duration_or_zero),
        max_concurrent: limit("max_concurrent", 0, 0),
        adaptive: section.or("adaptive", false, Item::boolean),
        adaptive_min,
        adaptive_max: adaptive_max.max(adaptive_min),
        drain_grace: section.or("drain_grace", Duration::from_secs(30), Item::duration_or_zero),
        drain_spread: section.or("drain_spread", Duration::from_secs(30), Item::duration_or_zero),
        websocket_max_frame: section.or("websocket_max_frame", 0, websocket_size),
        websocket_max_message: section.or("websocket_max_message", 0, websocket_size),
        upgrades: upgrades.unwrap_or_else(|| vec!["websocket".to_owned()]),
    }
}

/// How much of a WebSocket may come at once; 0 for no limit.
fn websocket_size(item: &Item<'_>) -> Option<u64> {
    item.integer(0..=i128::from(u32::MAX))
}

fn allowed_domain(item: &Item<'_>, private: bool) -> Option<String> {
    let domain = host(item)?;
    if !private && (domain.parse::<IpAddr>().is_ok() || is_loopback_name(&domain)) {
        item.wrong("addresses and localhost need allow_private_addresses = true, which is for local work only");
    }
    Some(domain)
}

/// A protocol to upgrade to. HTTP/2 and TLS in clear-text upgrades would carry requests past every check (RFC 9110 7.8).
fn upgrade(item: &Item<'_>) -> Option<String> {
    let token = item.text()?.to_ascii_lowercase();
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)) {
        item.wrong("is not the name of a protocol; write one such as \"websocket\"");
        return None;
    }
    if token.starts_with("h2c") || token.starts_with("tls") {
        item.wrong(format!("{token:?} would carry requests that nobody checks; remove it"));
        return None;
    }
    Some(token)
}
