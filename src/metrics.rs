//! Names and handles of all metrics. One registry per instance, none global, so that two gateways run in one test.

mod fleet;
mod gathered;
mod histogram;
mod http2;
mod nodes;
mod overload;
mod registry;
mod render;
mod sql;
mod worker;

pub use fleet::{FleetMetrics, Miss};
pub use histogram::Histogram;
pub use http2::Http2Refusal;
pub use nodes::{CircuitLimit, NodeMetrics};
pub use overload::OverloadMetrics;
pub use sql::{Abandoned, Api, SqlMetrics, StatementCall, StatementState};
pub use worker::{Finished, WorkerMetrics};

use crate::model::reject::Class;
use gathered::Gathered;
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};
use registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};
use worker::{Counts, Sum};

/// What a request was for; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// An embedded app.
    App,
    /// A SQL warehouse or the SQL API.
    Sql,
    /// An engine.
    Engine,
    /// The gateway's own endpoints.
    Own,
    /// FireFly's first form of URL.
    FireflyV1,
    /// Nothing that is known.
    Unknown,
}

impl RouteKind {
    const ALL: [Self; 6] = [Self::App, Self::Sql, Self::Engine, Self::Own, Self::FireflyV1, Self::Unknown];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Sql => "sql",
            Self::Engine => "engine",
            Self::Own => "own",
            Self::FireflyV1 => "firefly_v1",
            Self::Unknown => "unknown",
        }
    }
}

/// Who ended a request, a stream or a tunnel before its time; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutBy {
    /// The client went away.
    Client,
    /// The client stood still.
    ClientIdle,
    /// The client's body was malformed.
    ClientFraming,
    /// A WebSocket frame of the client's was refused.
    ClientFrame,
    /// The upstream stood still.
    UpstreamIdle,
    /// The upstream ended before its answer did.
    UpstreamClosed,
    /// The upstream reset the connection.
    UpstreamReset,
    /// The upstream's answer was malformed.
    UpstreamFraming,
    /// A WebSocket frame of the upstream's was refused.
    UpstreamFrame,
    /// The gateway went away.
    GatewayDrain,
    /// The session ended.
    SessionEnd,
    /// The upstream's node was to go.
    ClusterDrain,
    /// Access was taken away.
    Revoked,
}

impl CutBy {
    const ALL: [Self; 13] = [
        Self::Client,
        Self::ClientIdle,
        Self::ClientFraming,
        Self::ClientFrame,
        Self::UpstreamIdle,
        Self::UpstreamClosed,
        Self::UpstreamReset,
        Self::UpstreamFraming,
        Self::UpstreamFrame,
        Self::GatewayDrain,
        Self::SessionEnd,
        Self::ClusterDrain,
        Self::Revoked,
    ];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ClientIdle => "client_idle",
            Self::ClientFraming => "client_framing",
            Self::ClientFrame => "client_frame",
            Self::UpstreamIdle => "upstream_idle",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamFraming => "upstream_framing",
            Self::UpstreamFrame => "upstream_frame",
            Self::GatewayDrain => "gateway_drain",
            Self::SessionEnd => "session_end",
            Self::ClusterDrain => "cluster_drain",
            Self::Revoked => "revoked",
        }
    }
}

/// The handles of one replica of the directory's database.
pub struct ReplicaMetrics {
    /// Reads that it answered.
    pub reads: Counter,
    /// From asking the primary for its position to the replica's being there, at the last read.
    pub lag_seconds: Gauge,
    /// What it had still to replay when it was last waited for in vain.
    pub lag_bytes: Gauge,
}

const METADATA: Metadata<'static> = Metadata::new("embedgate", Level::INFO, None);

/// All metrics of one instance.
pub struct Metrics {
    registry: Registry,
    /// What the workers count by themselves.
    workers: Mutex<Vec<Arc<Counts>>>,
    gathered: Gathered,
    rejects: Vec<Counter>,
    cuts: [Counter; 13],
    http2_refusals: [Counter; 7],
    /// Of SQL.
    pub sql: SqlMetrics,
    /// Bytes of bodies that are held until it is known where they go.
    pub held_bytes: Gauge,
    /// Bodies refused because those of all organisations fill what may be held.
    pub held_full: Counter,
    /// Bodies refused because those of their organisation fill its share.
    pub held_full_for_org: Counter,
    /// Open WebSockets and other upgraded connections.
    pub tunnels_active: Gauge,
    /// Open connections of clients.
    pub connections_active: Gauge,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because the instance was full.
    pub connections_refused: Counter,
    /// Streams of HTTP/2 connections.
    pub http2_streams: Counter,
    /// Requests that went on as streams of HTTP/2 connections to upstreams.
    pub upstream_http2_streams: Counter,
    /// Connections refused because who made them may not send PROXY headers.
    pub proxy_untrusted: Counter,
    /// Connections refused because they do not begin with a PROXY header.
    pub proxy_malformed: Counter,
    /// Connections refused because their PROXY header did not come in time.
    pub proxy_slow: Counter,
    /// Connections made to upstreams.
    pub upstream_connections: Counter,
    /// Connections to upstreams that failed.
    pub upstream_failures: Counter,
    /// Requests sent a second time on a fresh connection or with a fresh token.
    pub retries: Counter,
    /// Requests that could have been sent a second time, had there not been too many of them.
    pub retries_over_budget: Counter,
    /// What nodes do.
    pub nodes: NodeMetrics,
    /// Tokens issued.
    pub mints: Counter,
    /// Mints that the issuer refused.
    pub mints_refused: Counter,
    /// Mints for which the issuer could not be reached.
    pub mints_unreachable: Counter,
    /// Seconds since the front end's keys were fetched.
    pub jwks_age: Gauge,
    /// Fetches of the front end's keys that came to nothing.
    pub jwks_failures: Counter,
    /// Seconds since the directory was known to be current.
    pub directory_age: Gauge,
    /// Organisations in the directory.
    pub directory_orgs: Gauge,
    /// Requests, streams and tunnels that were ended because access was taken away.
    pub streams_revoked: Counter,
    /// Revocations and bans in force.
    pub directory_bars: Gauge,
    /// Rows of the directory that cannot be used.
    pub directory_unusable: Gauge,
    /// Requests that wait for something to start.
    pub held: Gauge,
    /// How long they waited.
    pub held_seconds: Arc<Histogram>,
    /// How long the one that waits longest has waited, over all.
    pub held_longest: Gauge,
    /// Upstreams that were started.
    pub starts: Counter,
    /// Upstreams that could not be started.
    pub starts_failed: Counter,
    /// Upstreams that were stopped because nobody used them.
    pub idle_stops: Counter,
    /// Of the fleet.
    pub fleet: FleetMetrics,
    /// Directory loads that were taken over.
    pub directory_loads: Counter,
    /// Directory loads that were refused.
    pub directory_failures: Counter,
    /// Reads of the directory that no replica answered though there are some.
    pub directory_fallbacks: Counter,
    /// Log lines lost because the reader was too slow.
    pub log_dropped: Counter,
    /// Panics that ended one connection.
    pub panics: Counter,
    /// Of quotas, queues and what is short.
    pub overload: OverloadMetrics,
}

impl Default for Metrics {
    /// Registers everything.
    fn default() -> Self {
        let registry = Registry::default();
        describe(&registry);
        let gauge = |name: &'static str| registry.register_gauge(&Key::from_static_name(name), &METADATA);
        let counter = |name: &'static str| registry.register_counter(&Key::from_static_name(name), &METADATA);
        let labelled = |name, key, value| counter_with(&registry, name, vec![Label::from_static_parts(key, value)]);
        let info = vec![Label::from_static_parts("version", env!("CARGO_PKG_VERSION"))];
        registry.register_gauge(&Key::from_parts("embedgate_build_info", info), &METADATA).set(1.0);
        Self {
            workers: Mutex::default(),
            gathered: Gathered::new(&registry),
            rejects: Class::ALL.iter().map(|c| labelled("embedgate_rejects_total", "reason", c.label())).collect(),
            cuts: CutBy::ALL.map(|by| labelled("embedgate_cuts_total", "by", by.label())),
            http2_refusals: Http2Refusal::ALL
                .map(|why| labelled("embedgate_http2_refusals_total", "reason", why.label())),
            sql: SqlMetrics::new(&registry),
            held_bytes: gauge("embedgate_held_bytes"),
            held_full: labelled("embedgate_held_refused_total", "share", "all"),
            held_full_for_org: labelled("embedgate_held_refused_total", "share", "organisation"),
            tunnels_active: gauge("embedgate_tunnels_active"),
            connections_active: gauge("embedgate_connections_active"),
            connections: labelled("embedgate_connections_total", "result", "accepted"),
            connections_refused: labelled("embedgate_connections_total", "result", "refused"),
            http2_streams: counter("embedgate_http2_streams_total"),
            upstream_http2_streams: counter("embedgate_upstream_http2_streams_total"),
            proxy_untrusted: labelled("embedgate_proxy_protocol_errors_total", "reason", "untrusted"),
            proxy_malformed: labelled("embedgate_proxy_protocol_errors_total", "reason", "malformed"),
            proxy_slow: labelled("embedgate_proxy_protocol_errors_total", "reason", "slow"),
            upstream_connections: labelled("embedgate_upstream_connections_total", "result", "opened"),
            upstream_failures: labelled("embedgate_upstream_connections_total", "result", "failed"),
            retries: counter("embedgate_retries_total"),
            retries_over_budget: counter("embedgate_retries_over_budget_total"),
            nodes: NodeMetrics::new(&registry),
            streams_revoked: counter("embedgate_streams_revoked_total"),
            mints: labelled("embedgate_token_mints_total", "result", "ok"),
            mints_refused: labelled("embedgate_token_mints_total", "result", "refused"),
            mints_unreachable: labelled("embedgate_token_mints_total", "result", "unreachable"),
            jwks_age: gauge("embedgate_jwks_age_seconds"),
            jwks_failures: counter("embedgate_jwks_failures_total"),
            directory_age: gauge("embedgate_directory_age_seconds"),
            directory_orgs: gauge("embedgate_directory_organisations"),
            directory_bars: gauge("embedgate_directory_revocations"),
            directory_unusable: gauge("embedgate_directory_unusable_rows"),
            held: gauge("embedgate_held_requests"),
            held_seconds: registry.histogram(&Key::from_static_name("embedgate_held_seconds")),
            held_longest: gauge("embedgate_held_longest_seconds"),
            starts: labelled("embedgate_starts_total", "result", "ok"),
            starts_failed: labelled("embedgate_starts_total", "result", "failed"),
            idle_stops: counter("embedgate_idle_stops_total"),
            fleet: FleetMetrics::new(&registry),
            directory_loads: labelled("embedgate_directory_loads_total", "result", "ok"),
            directory_failures: labelled("embedgate_directory_loads_total", "result", "refused"),
            directory_fallbacks: counter("embedgate_directory_replica_fallbacks_total"),
            log_dropped: counter("embedgate_log_lines_dropped_total"),
            panics: counter("embedgate_panics_total"),
            overload: OverloadMetrics::new(&registry),
            registry,
        }
    }
}

impl Metrics {
    /// What another worker counts with.
    #[must_use]
    pub fn worker(&self) -> WorkerMetrics {
        let counts = Arc::<Counts>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counts));
        WorkerMetrics::new(counts)
    }

    /// The handles of a replica, which is told by its number: a URL may hold a password.
    #[must_use]
    pub fn replica(&self, number: usize) -> ReplicaMetrics {
        let labels = || vec![Label::new("replica", number.to_string())];
        let gauge = |name: &'static str| self.registry.register_gauge(&Key::from_parts(name, labels()), &METADATA);
        ReplicaMetrics {
            reads: counter_with(&self.registry, "embedgate_directory_replica_reads_total", labels()),
            lag_seconds: gauge("embedgate_directory_replica_lag_seconds"),
            lag_bytes: gauge("embedgate_directory_replica_lag_bytes"),
        }
    }

    /// Seconds until the first certificate ends that is shown to `shown_to`, one of two words.
    pub fn certificate_expiry(&self, shown_to: &'static str) -> Gauge {
        let labels = vec![Label::from_static_parts("shown_to", shown_to)];
        self.registry.register_gauge(&Key::from_parts("embedgate_certificate_expiry_seconds", labels), &METADATA)
    }

    /// Counts a refusal.
    pub fn count_reject(&self, class: Class) {
        if let Some(counter) = Class::ALL.iter().position(|c| *c == class).and_then(|at| self.rejects.get(at)) {
            counter.increment(1);
        }
    }

    /// Counts a request, a stream or a tunnel that was cut off.
    pub fn count_cut(&self, by: CutBy) {
        self.cuts[by as usize].increment(1);
    }

    /// Counts a connection of HTTP/2 that was ended for what the client did.
    pub fn count_http2_refusal(&self, why: Http2Refusal) {
        self.http2_refusals[why as usize].increment(1);
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        // Locked while it is gathered: who asks meanwhile must not hear of less than was told before.
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        self.gathered.replace(&self.registry, &Sum(&workers));
        self.registry.render()
    }
}

fn counter_with(registry: &Registry, name: &'static str, labels: Vec<Label>) -> Counter {
    registry.register_counter(&Key::from_parts(name, labels), &METADATA)
}

fn describe(registry: &Registry) {
    let gauges = [
        ("embedgate_build_info", "Version of the program; always 1."),
        ("embedgate_requests_active", "Requests being served."),
        ("embedgate_held_bytes", "Bytes of SQL statements that are held until it is known where they go."),
        ("embedgate_tunnels_active", "Open WebSockets and other upgraded connections."),
        ("embedgate_directory_revocations", "Revocations and bans in force."),
        ("embedgate_connections_active", "Open connections of clients."),
        ("embedgate_certificate_expiry_seconds", "Seconds until the first certificate ends; below 0 it has ended."),
        ("embedgate_jwks_age_seconds", "Seconds since the keys of the front end's JWTs were fetched."),
        ("embedgate_held_requests", "Requests that wait for something to start."),
        (
            "embedgate_held_longest_seconds",
            "How long the request has waited that waits longest for something to start.",
        ),
        ("embedgate_directory_age_seconds", "Seconds since the directory was known to be current."),
        ("embedgate_directory_organisations", "Organisations in the directory."),
        ("embedgate_directory_replica_lag_seconds", "How long a replica took to replay what the primary had written."),
        ("embedgate_directory_replica_lag_bytes", "What a replica had still to replay when it was given up."),
        ("embedgate_directory_unusable_rows", "Rows of the directory that cannot be used; the log names them."),
    ];
    let counters = [
        ("embedgate_requests_total", "Finished requests by kind of route and status code."),
        ("embedgate_rejects_total", "Requests refused by the gateway itself, by reason."),
        ("embedgate_cuts_total", "Requests, streams and tunnels that ended before their time, by who ended them."),
        ("embedgate_streams_revoked_total", "Requests, streams and WebSockets ended because access was taken away."),
        ("embedgate_connections_total", "Connections of clients, accepted or refused because the instance was full."),
        ("embedgate_http2_streams_total", "Requests and WebSockets that came as streams of HTTP/2 connections."),
        ("embedgate_upstream_http2_streams_total", "Requests that went on as streams of HTTP/2 connections."),
        ("embedgate_http2_refusals_total", "Connections of HTTP/2 that were ended for what the client did, by reason."),
        ("embedgate_proxy_protocol_errors_total", "Connections refused for want of a good PROXY header, by reason."),
        ("embedgate_held_refused_total", "Bodies refused because too much was held, by whose share was full."),
        ("embedgate_received_bytes_total", "Body and tunnel bytes received from clients."),
        ("embedgate_sent_bytes_total", "Body and tunnel bytes sent to clients."),
        ("embedgate_upstream_connections_total", "Connections to upstreams, opened or failed."),
        (
            "embedgate_retries_total",
            "Requests sent again on a fresh connection, with a fresh token or to another node.",
        ),
        ("embedgate_retries_over_budget_total", "Requests not sent again because upstreams.retry_budget was spent."),
        ("embedgate_token_mints_total", "Calls to token issuers by result."),
        ("embedgate_jwks_failures_total", "Fetches of the keys of the front end's JWTs that came to nothing."),
        ("embedgate_starts_total", "Apps and warehouses started, or found impossible to start."),
        ("embedgate_idle_stops_total", "Apps and warehouses stopped because nobody used them."),
        ("embedgate_directory_loads_total", "Loads of the directory, taken over or refused."),
        ("embedgate_directory_replica_reads_total", "Reads of the directory that a replica answered."),
        ("embedgate_directory_replica_fallbacks_total", "Reads of the directory that no replica could answer."),
        ("embedgate_log_lines_dropped_total", "Log writes lost because their reader was too slow."),
        ("embedgate_panics_total", "Panics; each ended one connection."),
    ];
    let histograms = [
        ("embedgate_request_duration_seconds", "From a request's head to the last byte of its answer."),
        ("embedgate_upstream_duration_seconds", "From the request's head sent upstream to the head of the answer."),
        ("embedgate_held_seconds", "How long requests waited for something to start."),
        ("embedgate_overhead_duration_seconds", "Time the gateway itself added to a request."),
    ];
    nodes::describe(registry);
    for (name, help) in gauges {
        registry.describe_gauge(name.into(), None, help.into());
    }
    for (name, help) in counters {
        registry.describe_counter(name.into(), None, help.into());
    }
    for (name, help) in histograms {
        registry.describe_histogram(name.into(), Some(Unit::Seconds), help.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_show_up_with_help_and_labels() {
        let metrics = Metrics::default();
        metrics.count_reject(Class::Session);
        for by in CutBy::ALL {
            metrics.count_cut(by);
        }
        metrics.sql.queue(Api::Thrift).record(Duration::from_millis(200));
        let text = metrics.render();
        assert!(text.contains("# HELP embedgate_cuts_total Requests, streams and tunnels"), "{text}");
        for by in CutBy::ALL {
            assert!(text.contains(&format!("embedgate_cuts_total{{by=\"{}\"}} 1", by.label())), "{by:?}: {text}");
        }
        assert!(text.contains("embedgate_rejects_total{reason=\"session\"} 1"), "{text}");
        assert!(text.contains("embedgate_sql_queue_seconds_bucket{api=\"thrift\",le=\"0.25\"} 1"), "{text}");
        assert!(text.contains("embedgate_build_info{version="), "{text}");
    }
}
