//! Probes nodes where the directory says how. One task does it for all of them: it keeps a queue of what is due, has only so
//! many probes under way, and follows the directory. Each instance probes for itself, or one for the fleet ([`sharing`]).

pub mod sharing;

use crate::directory::postgres::prober::{Dead, DeadNode};
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
use sharing::{Duty, Sharing};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::future::pending;
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
    /// None where each instance probes for itself.
    sharing: Option<Sharing>,
    /// What another instance finds, while that one probes.
    followed: Option<Arc<Dead>>,
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
    /// A prober that does nothing yet. With `sharing` it probes only when that says so.
    #[must_use]
    pub fn new(means: Means, most: usize, sharing: Option<Sharing>) -> Self {
        means.metrics.nodes.probing.set(if sharing.is_none() { 1.0 } else { 0.0 });
        Self {
            means,
            most,
            followed: sharing.as_ref().map(|_| Arc::default()),
            sharing,
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
            let may_begin = self.followed.is_none() && self.under_way.len() < self.most;
            let next = self.queue.peek().filter(|_| may_begin).map(|Reverse(due)| due.at);
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(News::Orgs(ids)) => self.follow(Some(&ids)),
                    Ok(News::All) | Err(RecvError::Lagged(_)) => self.follow(None),
                    Ok(News::Bars(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.begin(),
                Some((due, outcome)) = self.under_way.next() => self.note(&due, outcome),
                duty = new_duty(&mut self.sharing) => self.take(duty),
            }
        }
    }

    /// Takes up what the fleet has agreed on.
    fn take(&mut self, duty: Duty) {
        let is_begun = self.followed.is_none();
        match duty {
            Duty::Follows(dead) => {
                self.followed = Some(dead);
                self.tell(|found| *found = None);
                self.hear();
            }
            Duty::Probes(_) if is_begun => {}
            Duty::Probes(dead) => {
                self.followed = Some(dead);
                self.follow(None);
                self.hear();
                self.followed = None;
                self.begin_anew();
            }
        }
        self.means.metrics.nodes.probing.set(if self.followed.is_none() { 1.0 } else { 0.0 });
    }

    /// Lets what another instance finds hold for all nodes.
    fn hear(&self) {
        let Some(dead) = &self.followed else { return };
        let nodes = self.watched.iter().flat_map(|(org, nodes)| nodes.values().map(move |watched| (org, watched)));
        nodes.for_each(|(org, watched)| watched.hear(org, dead));
    }

    /// Begins with nodes as they are, which another has probed until now.
    fn begin_anew(&mut self) {
        self.queue.clear();
        let mut dead = Dead::new();
        for (org, nodes) in &mut self.watched {
            for (uid, watched) in nodes {
                self.last += 1;
                (watched.entry, watched.good, watched.bad) = (self.last, 0, 0);
                // Not all at once, when there are many.
                let at = Instant::now() + watched.probe.interval.mul_f64(chance());
                self.queue.push(Reverse(Due { at, entry: self.last, org: org.clone(), node: *uid }));
                if watched.node.live.health().condition == Condition::Dead {
                    dead.insert(watched.name(org));
                }
            }
        }
        self.tell(|found| *found = Some(dead));
    }

    /// Changes what the others may know.
    fn tell(&self, change: impl FnOnce(&mut Option<Dead>)) {
        if let Some(sharing) = &self.sharing {
            sharing.found.send_modify(change);
        }
    }

    /// Tells the others of a verdict.
    fn tell_of(&self, name: DeadNode, is_well: bool) {
        self.tell(|found| {
            if let Some(dead) = found {
                let _ = if is_well { dead.remove(&name) } else { dead.insert(name) };
            }
        });
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
            if !stays && watched.node.live.probed(true) {
                self.tell_of(watched.name(id), true);
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
                    let watched = Watched { upstream, node, probe, entry, good, bad };
                    if let Some(dead) = &self.followed {
                        watched.hear(id, dead);
                    }
                    known.insert(uid, watched);
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
            let name = watched.node.live.probed(true).then(|| watched.name(&due.org));
            if let Some(name) = name {
                self.tell_of(name, true);
            }
            self.again(&due);
        }
    }

    /// Notes what came of a probe.
    fn note(&mut self, due: &Due, outcome: Result<(), String>) {
        let metrics = &self.means.metrics;
        if outcome.is_ok() { &metrics.nodes.probes } else { &metrics.nodes.probes_failed }.increment(1);
        let Some(watched) = find(&mut self.watched, due) else { return };
        // What was begun before another took over is nobody's verdict.
        if self.followed.is_none() {
            let verdict = watched.note(&due.org, outcome).map(|is_well| (watched.name(&due.org), is_well));
            if let Some((name, is_well)) = verdict {
                self.tell_of(name, is_well);
            }
        }
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

    /// What the fleet calls it.
    fn name(&self, org: &OrgId) -> DeadNode {
        DeadNode { org: org.as_str().into(), node: self.node.url.to_string().into() }
    }

    /// Takes what another instance finds.
    fn hear(&self, org: &OrgId, dead: &Dead) {
        let (upstream, node) = (&self.upstream.id, &self.node.url);
        let is_well = dead.is_empty() || !dead.contains(&self.name(org));
        if !self.node.live.probed(is_well) {
            return;
        }
        if is_well {
            tracing::info!(%org, %upstream, %node, "node answers the fleet's probes again and is back in use");
        } else {
            tracing::warn!(%org, %upstream, %node, "node fails the fleet's probes and is out of use");
        }
    }

    /// Counts an outcome; whether the node is well, where that is new.
    fn note(&mut self, org: &OrgId, outcome: Result<(), String>) -> Option<bool> {
        let (upstream, node, live) = (&self.upstream.id, &self.node.url, &self.node.live);
        match outcome {
            Ok(()) => {
                (self.good, self.bad) = (self.good.saturating_add(1), 0);
                let is_back = self.good >= self.probe.healthy && live.probed(true);
                if is_back {
                    tracing::info!(%org, %upstream, %node, "node answers its probes again and is back in use");
                }
                is_back.then_some(true)
            }
            Err(why) => {
                (self.good, self.bad) = (0, self.bad.saturating_add(1));
                let is_out = self.bad >= self.probe.unhealthy && live.probed(false);
                if is_out {
                    tracing::warn!(%org, %upstream, %node, last = why, "node fails its probes and is out of use");
                }
                is_out.then_some(false)
            }
        }
    }
}

/// What the fleet agrees on next, where it does.
async fn new_duty(sharing: &mut Option<Sharing>) -> Duty {
    let Some(sharing) = sharing else { return pending().await };
    if sharing.duty.changed().await.is_err() {
        // The instance is about to end.
        return pending().await;
    }
    sharing.duty.borrow_and_update().clone()
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
