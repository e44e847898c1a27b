//! Connections to nodes: one that is kept, or a new one within the limits of the node's circuit.

use super::account::Account;
use super::detour::{Detour, Missed};
use super::failure::dial_failed;
use super::multiplexed::{Multiplexed, UpstreamIo};
use super::trip::Trip;
use super::worker::Worker;
use crate::live::place::Place;
use crate::metrics::CircuitLimit;
use crate::model::reject::{Class, Reject};
use crate::net::dial::Speech;
use crate::net::io::Io;
use crate::net::tls::HTTP2;

/// A connection to the node, fresh or of HTTP/1.1 where that is asked for; whether it has been used before.
pub(super) async fn connect(
    worker: &Worker,
    trip: &Trip,
    detour: &Detour<'_>,
    (fresh, http1): (bool, bool),
    account: &mut Account,
) -> Result<(UpstreamIo, bool), Missed> {
    // Of the one before, if there was one.
    account.connection = None;
    if !fresh
        && !http1
        && trip.is_pooled()
        && let Some((io, place)) = worker.pool.take(trip.to(), account.started()).await
    {
        account.connection = place;
        return Ok((io, true));
    }
    // Boxed: a connection is seldom made, and handshakes take room.
    let (io, place) = Box::pin(open(worker, trip, detour, http1)).await?;
    account.connection = place;
    Ok((io, false))
}

/// A new connection to the node and its place there, or the first stream of one.
async fn open(
    worker: &Worker,
    trip: &Trip,
    detour: &Detour<'_>,
    http1: bool,
) -> Result<(UpstreamIo, Option<Place>), Missed> {
    let (metrics, circuit, live) = (&worker.plane.metrics, &worker.plane.settings.circuit, &trip.node.live);
    let speech = if http1 { Speech::Http1 } else { trip.speech(worker) };
    let own = trip.handshake(worker).map_err(Missed::Wrong)?;
    let full = |limit| move || Missed::Full(limit);
    let place =
        live.connections.take(circuit.max_connections_per_node).ok_or_else(full(CircuitLimit::NodeConnections))?;
    let connecting =
        live.connecting.take(circuit.max_connecting_per_node).ok_or_else(full(CircuitLimit::NodeConnecting))?;
    let (dialer, url) = (worker.plane.dialer.within(detour.patience(worker, trip)), &trip.node.url);
    let dialled = match own {
        Some(own) => dialer.dial_with(url, speech, own).await,
        None => dialer.dial(url, speech).await,
    };
    drop(connecting);
    match dialled {
        Ok(io) => {
            metrics.upstream_connections.increment(1);
            let is_http2 = io.has_agreed_on(HTTP2) || (speech == Speech::Http2 && !io.is_tls());
            if is_http2 {
                let stream = share(worker, trip, io, place).await;
                stream.map(|stream| (stream, None)).map_err(Missed::Unreached)
            } else {
                Ok((UpstreamIo::Socket(io), Some(place)))
            }
        }
        Err(error) => {
            metrics.upstream_failures.increment(1);
            Err(Missed::Unreached(dial_failed(&error)))
        }
    }
}

/// The first stream of a new connection of HTTP/2, which other requests to the node may share from now on.
async fn share(worker: &Worker, trip: &Trip, io: Io, place: Place) -> Result<UpstreamIo, Reject> {
    let broken = |cause: String| Reject::new(Class::Unreachable, cause).at("connection_terminated", None);
    let limit = worker.plane.dialer.timeout();
    let connection = Multiplexed::open(worker, io, place, limit).await;
    let connection = connection.map_err(|error| broken(format!("HTTP/2: {error}")))?;
    let stream = connection.stream(trip.node.url.scheme().as_str());
    let stream = stream.ok_or_else(|| broken("HTTP/2: the upstream takes no streams".to_owned()))?;
    worker.pool.share(trip.to(), connection);
    Ok(stream)
}
