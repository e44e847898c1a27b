//! Probes nodes where the directory says how. One task does it for all of them: it keeps a queue of what is due, has only so
//! many probes under way, and follows the directory. Each instance probes for itself.

use crate::directory::{Directory, News};
use crate::live::node::Condition;
use crate::metrics::Metrics;
use crate::model::ids::OrgId;
use crate::model::probe::{Probe, ProbeKind};
use crate::model::snapshot::{Org, Snapshot};
use crate::model::upstream::{Node, Upstream};
use crate::net::dial::{Dialer, Speech};
use crate::net::http::{Limits, call};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body_util::Full;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes of an answer to a probe that are read: its status tells, its page does not.
const MOST_READ: usize = 64 * 1024;
/// Entries of the queue that may be void besides as many as there are nodes.
const SPARE_ENTRIES: usize = 64;

/// What a [`Prober`] works with.
pub struct Means {
    /// Connects to nodes, under the policy of addresses.
    pub dialer: Dialer,
    /// Says what there is to probe.
    pub directory: Arc<Directory>,
    /// Where probes are counted.
    pub metrics: Arc<Metrics>,
}

/// Probes nodes.
pub struct Prober {
    means: Means,
    /// Probes that may be under way.
    most: usize,
    watched: HashMap<OrgId, HashMap<u64, Watched>>,
    queue: BinaryHeap<Reverse<Due>>,
    under_way: FuturesUnordered<BoxFuture<'static, (Due, Result<(), String>)>>,
    /// The number of the last entry of the queue.
    last: u64,
}

/// A node that is probed.
struct Watched {
    /// A node of several upstreams is probed for the first of them.
    upstream: Arc<Upstream>,
    node: Arc<Node>,
    probe: Probe,
    /// The entry of the queue that counts.
    entry: u64,
    /// Probes in a row of one outcome; the other is 0.
    good: u32,
    bad: u32,
}

/// What is to be done next, and when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    entry: u64,
    org: OrgId,
    node: u64,
}

impl Prober {
    /// A prober that does nothing yet.
    #[must_use]
    pub fn new(means: Means, most: usize) -> Self {
        Self {
            means,
            most,
            watched: HashMap::new(),
            queue: BinaryHeap::new(),
            under_way: FuturesUnordered::new(),
            last: 0,
        }
    }

    /// Probes for ever.
    pub async fn run(mut self) {
        let mut news = self.means.directory.news();
        self.follow(None);
        loop {
            let next = self.queue.peek().filter(|_| self.under_way.len() < self.most).map(|Reverse(due)| due.at);
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(News::Orgs(ids)) => self.follow(Some(&ids)),
                    Ok(News::All) | Err(RecvError::Lagged(_)) => self.follow(None),
                    Ok(News::Bars(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.begin(),
                Some((due, outcome)) = self.under_way.next() => self.note(&due, outcome),
            }
        }
    }

    /// Probes what these organisations have now, or all of them, and forgets what they have no more.
    fn follow(&mut self, ids: Option<&[OrgId]>) {
        let Some(snapshot) = self.means.directory.held() else { return };
        if let Some(ids) = ids {
            for id in ids {
                self.follow_org(id, snapshot.org(id.as_str()));
            }
        } else {
            let gone = self.watched.keys().filter(|id| snapshot.org(id.as_str()).is_none()).cloned();
            gone.collect::<Vec<_>>().iter().for_each(|id| self.follow_org(id, None));
            snapshot.orgs().for_each(|org| self.follow_org(&org.id, Some(org)));
        }
        let nodes: usize = self.watched.values().map(HashMap::len).sum();
        if self.queue.len() > 2 * nodes + SPARE_ENTRIES {
            let watched = &self.watched;
            self.queue.retain(|Reverse(due)| counts(watched, due));
        }
    }

    fn follow_org(&mut self, id: &OrgId, org: Option<&Arc<Org>>) {
        let wanted = org.map(|org| wanted(org)).unwrap_or_default();
        let mut known = self.watched.remove(id).unwrap_or_default();
        known.retain(|uid, watched| {
            let stays = wanted.contains_key(uid);
            if !stays {
                watched.node.live.probed(true);
            }
            stays
        });
        for (uid, (upstream, node, probe)) in wanted {
            match known.get_mut(&uid) {
                Some(watched) if watched.probe == *probe => watched.upstream = Arc::clone(upstream),
                before => {
                    let (good, bad) = before.map_or((0, 0), |watched| (watched.good, watched.bad));
                    // Not all at once, when there are many.
                    let entry = self.enqueue(id, uid, probe.interval.mul_f64(chance()));
                    let (upstream, node, probe) = (Arc::clone(upstream), Arc::clone(node), probe.clone());
                    known.insert(uid, Watched { upstream, node, probe, entry, good, bad });
                }
            }
        }
        if !known.is_empty() {
            self.watched.insert(id.clone(), known);
        }
    }

    fn enqueue(&mut self, org: &OrgId, node: u64, pause: Duration) -> u64 {
        self.last += 1;
        self.queue.push(Reverse(Due { at: Instant::now() + pause, entry: self.last, org: org.clone(), node }));
        self.last
    }

    /// Begins the probe that is due. What gets no requests is not probed, and is as if it were well.
    fn begin(&mut self) {
        let Some(Reverse(due)) = self.queue.pop() else { return };
        let Some(watched) = find(&mut self.watched, &due) else { return };
        if watched.serves() {
            let probing = probe(self.means.dialer.clone(), Arc::clone(&watched.node), watched.probe.clone());
            self.under_way.push(Box::pin(async move { (due, probing.await) }));
        } else {
            (watched.good, watched.bad) = (0, 0);
            watched.node.live.probed(true);
            self.again(&due);
        }
    }

    /// Notes what came of a probe.
    fn note(&mut self, due: &Due, outcome: Result<(), String>) {
        let metrics = &self.means.metrics;
        if outcome.is_ok() { &metrics.nodes.probes } else { &metrics.nodes.probes_failed }.increment(1);
        let Some(watched) = find(&mut self.watched, due) else { return };
        watched.note(&due.org, outcome);
        self.again(due);
    }

    /// Puts a node that was looked at into the queue again.
    fn again(&mut self, due: &Due) {
        let Some(interval) = find(&mut self.watched, due).map(|watched| watched.probe.interval) else { return };
        // A tenth more or less, so that instances do not probe in step.
        let entry = self.enqueue(&due.org, due.node, interval.mul_f64(0.9 + 0.2 * chance()));
        if let Some(watched) = find(&mut self.watched, due) {
            watched.entry = entry;
        }
    }
}

impl Watched {
    /// Whether requests go to the node.
    fn serves(&self) -> bool {
        self.upstream.serving().flat_map(|cluster| &cluster.nodes).any(|node| node.live.uid() == self.node.live.uid())
    }

    fn note(&mut self, org: &OrgId, outcome: Result<(), String>) {
        let (upstream, node, live) = (&self.upstream.id, &self.node.url, &self.node.live);
        match outcome {
            Ok(()) => {
                (self.good, self.bad) = (self.good.saturating_add(1), 0);
                if self.good >= self.probe.healthy && live.probed(true) {
                    tracing::info!(%org, %upstream, %node, "node answers its probes again and is back in use");
                }
            }
            Err(why) => {
                (self.good, self.bad) = (0, self.bad.saturating_add(1));
                if self.bad >= self.probe.unhealthy && live.probed(false) {
                    tracing::warn!(%org, %upstream, %node, last = why, "node fails its probes and is out of use");
                }
            }
        }
    }
}

/// The nodes of an organisation that are to be probed, by their numbers.
fn wanted(org: &Org) -> HashMap<u64, (&Arc<Upstream>, &Arc<Node>, &Probe)> {
    let mut upstreams: Vec<_> = org.by_kind().filter_map(|(kind, up)| Some((kind, up, up.probe.as_ref()?))).collect();
    // The same of several upstreams whenever they are looked at.
    upstreams.sort_unstable_by_key(|(kind, upstream, _)| (*kind, upstream.id.as_str()));
    let mut wanted = HashMap::new();
    for (_, upstream, probe) in upstreams {
        for node in upstream.clusters.iter().flat_map(|cluster| &cluster.nodes) {
            wanted.entry(node.live.uid()).or_insert((upstream, node, probe));
        }
    }
    wanted
}

/// The node that an entry of the queue is about, if the entry counts.
fn find<'a>(watched: &'a mut HashMap<OrgId, HashMap<u64, Watched>>, due: &Due) -> Option<&'a mut Watched> {
    watched.get_mut(&due.org)?.get_mut(&due.node).filter(|watched| watched.entry == due.entry)
}

fn counts(watched: &HashMap<OrgId, HashMap<u64, Watched>>, due: &Due) -> bool {
    let watched = watched.get(&due.org).and_then(|nodes| nodes.get(&due.node));
    watched.is_some_and(|watched| watched.entry == due.entry)
}

/// Probes a node; why it is not well.
async fn probe(dialer: Dialer, node: Arc<Node>, probe: Probe) -> Result<(), String> {
    match &probe.kind {
        ProbeKind::Tcp => match timeout(probe.timeout, dialer.dial(&node.url, Speech::Either)).await {
            Ok(dialled) => dialled.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {:?}", probe.timeout)),
        },
        ProbeKind::Http { path, expect } => {
            let request = Request::get(&**path).body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
            let limits = Limits { time: probe.timeout, answer: MOST_READ };
            let answer = call(&dialer, &node.url, request, limits).await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            if expect.contains(status) { Ok(()) } else { Err(format!("it answers {status}, and {expect} is expected")) }
        }
    }
}

/// A number between 0 and 1.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}

/// Tells the metrics how many nodes are out of use.
pub fn measure(snapshot: &Snapshot, metrics: &Metrics) {
    let upstreams = snapshot.orgs().flat_map(|org| org.by_kind().map(|(_, upstream)| upstream));
    let nodes = upstreams.flat_map(|upstream| upstream.clusters.iter().flat_map(|cluster| &cluster.nodes));
    let out = nodes.map(|node| &node.live).filter(|live| !live.is_good());
    let out: HashSet<_> = out.map(|live| (live.uid(), live.health().condition == Condition::Dead)).collect();
    let dead = out.iter().filter(|(_, is_dead)| *is_dead).count();
    metrics.nodes.dead.set(dead as f64);
    metrics.nodes.ejected.set((out.len() - dead) as f64);
}
