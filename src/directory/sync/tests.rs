//! What is published when, with a source that gives what it is told to.

use super::*;
use crate::model::quota::Quota;
use crate::model::tables::Segment;
use std::collections::VecDeque;

/// A remote source with one organisation in several versions, read one after the other.
struct Scripted {
    reads: VecDeque<Option<u64>>,
    waiting: VecDeque<Change>,
}

fn id() -> OrgId {
    OrgId::parse("acme").unwrap()
}

fn row(version: u64) -> OrgRow {
    OrgRow {
        members: None,
        frontends: None,
        quota: Quota::default(),
        id: id(),
        name: format!("version {version}"),
        segment: Segment::Stable,
        version,
        workspaces: vec![],
        principals: vec![],
        apps: vec![],
        warehouses: vec![],
        engines: Vec::new(),
        rules: Vec::new(),
    }
}

impl Source for Scripted {
    type Error = &'static str;

    const REMOTE: bool = true;

    async fn load(&mut self) -> Result<Tables, Self::Error> {
        let orgs = self.reads.pop_front().ok_or("away")?.map(row).into_iter().collect();
        Ok(Tables { orgs, bars: Vec::new() })
    }

    async fn changed(&mut self) -> Change {
        std::future::pending().await
    }

    fn waiting(&mut self) -> Option<Change> {
        self.waiting.pop_front()
    }

    fn is_current(&self) -> bool {
        true
    }
}

fn follower(reads: &[Option<u64>]) -> Follower<Scripted> {
    Follower {
        source: Scripted { reads: reads.iter().copied().collect(), waiting: VecDeque::new() },
        directory: Arc::default(),
        metrics: Arc::<Metrics>::default(),
        failures: 0,
        retry: None,
        next: None,
    }
}

fn told(version: u64) -> Change {
    Change::Org { id: id(), version }
}

/// The version in memory, and how many reads are left.
fn state(follower: &Follower<Scripted>) -> (Option<u64>, usize) {
    let snapshot = follower.directory.snapshot();
    (snapshot.and_then(|now| now.org("acme").map(|org| org.version)), follower.source.reads.len())
}

#[tokio::test]
async fn an_older_read_never_overwrites_a_newer_one() {
    let mut follower = follower(&[Some(5), Some(7), Some(6), Some(8)]);
    follower.apply(Change::All).await;
    follower.apply(told(5)).await;
    assert_eq!(state(&follower), (Some(5), 3), "what is known is not read again");
    follower.apply(told(6)).await;
    assert_eq!(state(&follower), (Some(7), 2), "a read may be newer than its notice");
    assert!(follower.retry.is_none());
    follower.apply(told(8)).await;
    assert_eq!((state(&follower), follower.failures), ((Some(7), 1), 1), "that read came too early");
    assert!(follower.retry.is_some() && follower.directory.trouble().is_some());
    follower.apply(Change::All).await;
    assert_eq!((state(&follower), follower.failures), ((Some(8), 0), 0));
    assert!(follower.retry.is_none() && follower.directory.trouble().is_none());
}

#[tokio::test]
async fn a_full_load_takes_versions_that_went_back_and_what_is_gone_goes() {
    let mut follower = follower(&[Some(9), Some(3), None]);
    follower.apply(Change::All).await;
    follower.apply(Change::All).await;
    assert_eq!(state(&follower), (Some(3), 1), "a failover");
    follower.apply(told(4)).await;
    assert_eq!(state(&follower), (None, 0), "deleted");
}

#[tokio::test]
async fn a_failed_load_leaves_what_is_there_and_the_first_notice_loads_all() {
    let mut follower = follower(&[]);
    follower.apply(told(1)).await;
    assert_eq!((state(&follower), follower.failures), ((None, 0), 1));
    assert!(follower.directory.snapshot().is_none() && follower.directory.age_seconds().is_none());
    assert_eq!(follower.directory.trouble().as_deref(), Some("away"));
    follower.source.reads.push_back(Some(2));
    follower.apply(told(2)).await;
    assert_eq!((state(&follower), follower.failures), ((Some(2), 0), 0));
    follower.apply(told(3)).await;
    assert_eq!((state(&follower), follower.failures), ((Some(2), 0), 1));
    assert!(follower.directory.age_seconds().is_some());
}

#[tokio::test]
async fn what_waits_is_read_at_once_up_to_what_is_no_organisation() {
    let other = |version| Change::Org { id: OrgId::parse("other").unwrap(), version };
    let mut follower = follower(&[Some(1), Some(4), Some(5)]);
    follower.apply(Change::All).await;
    follower.source.waiting = [other(3), told(4), Change::Versions, told(5)].into();
    follower.apply(told(2)).await;
    assert_eq!((state(&follower), follower.failures), ((Some(4), 1), 0), "one read for all of them");
    assert_eq!(follower.next, Some(Change::Versions), "and the rest in its order");
    assert_eq!(follower.source.waiting, [told(5)]);
}

#[tokio::test]
async fn after_a_failure_a_comparison_is_not_enough() {
    let mut follower = follower(&[Some(1)]);
    follower.apply(Change::Versions).await;
    assert_eq!(state(&follower), (Some(1), 0), "the first load is of everything");
    follower.apply(told(2)).await;
    assert_eq!(follower.failures, 1);
    follower.source.reads.push_back(Some(2));
    follower.apply(Change::Versions).await;
    assert_eq!((state(&follower), follower.failures), ((Some(2), 0), 0));
}
