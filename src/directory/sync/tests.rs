//! What is published when, with a source that gives what it is told to.

use super::*;
use crate::model::tables::Segment;
use std::collections::VecDeque;

/// A remote source with one organisation in several versions, read one after the other.
struct Scripted {
    reads: VecDeque<Option<u64>>,
}

fn id() -> OrgId {
    OrgId::parse("acme").unwrap()
}

fn row(version: u64) -> OrgRow {
    OrgRow {
        members: None,
        id: id(),
        name: format!("version {version}"),
        segment: Segment::Stable,
        version,
        workspaces: vec![],
        principals: vec![],
        apps: vec![],
        warehouses: vec![],
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

    fn is_current(&self) -> bool {
        true
    }
}

fn follower(reads: &[Option<u64>]) -> Follower<Scripted> {
    Follower {
        source: Scripted { reads: reads.iter().copied().collect() },
        directory: Arc::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        failures: 0,
        retry: None,
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
