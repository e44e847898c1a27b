//! How near the process is to what the system gives it: measured once a second, told in [`crate::live::pressure`].

use crate::directory::Directory;
use crate::live::pressure::{Level, Pressure};
use crate::metrics::Metrics;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is measured: memory that is asked for faster than this is the kernel's to refuse.
const INTERVAL: Duration = Duration::from_secs(1);
/// Where the kernel shows the groups that processes are in.
const GROUPS: &str = "/sys/fs/cgroup";

/// What is measured and whom it is told.
#[derive(Clone)]
pub struct Gauge {
    /// Whom requests ask.
    pub pressure: Arc<Pressure>,
    /// Who has how much under way.
    pub directory: Arc<Directory>,
    /// Where operators see it.
    pub metrics: Arc<Metrics>,
    /// Bytes from which on nothing new is taken; none for no limit.
    pub memory: Option<u64>,
    /// Open files from which on nothing new is taken.
    pub files: u64,
}

impl Gauge {
    /// Measures for ever.
    pub async fn run(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = (Level::Calm, Level::Calm);
        loop {
            ticks.tick().await;
            before = self.measure(before);
        }
    }

    fn measure(&self, before: (Level, Level)) -> (Level, Level) {
        let (memory, files) = (memory(), open_files());
        let shown = &self.metrics.overload;
        let show = |[now, limit]: &[metrics::Gauge; 2], value: Option<u64>, most: Option<u64>| {
            for (gauge, value) in [(now, value), (limit, most)] {
                if let Some(value) = value {
                    gauge.set(value as f64);
                }
            }
        };
        show(&shown.memory, memory, self.memory);
        show(&shown.files, files, Some(self.files));
        let now = (level(memory, self.memory), level(files, Some(self.files)));
        if now != (Level::Calm, Level::Calm) {
            self.pressure.set_share(self.fair_share());
        }
        self.pressure.tell(now.0, now.1);
        if now > before {
            let (memory_limit, files_limit) = (self.memory, self.files);
            tracing::warn!(
                memory,
                memory_limit,
                files,
                files_limit,
                "short of memory or files: new requests are refused"
            );
        }
        now
    }

    /// What each organisation with something under way would have if all had as much.
    fn fair_share(&self) -> u32 {
        let Some(snapshot) = self.directory.snapshot() else { return 1 };
        let active = snapshot.orgs().map(|org| org.budget.usage.active()).filter(|active| *active > 0);
        let (sum, count) = active.fold((0u64, 0u64), |(sum, count), active| (sum + u64::from(active), count + 1));
        u32::try_from(sum.div_ceil(count.max(1))).unwrap_or(u32::MAX).max(1)
    }
}

/// From nine tenths of the limit on, those with more than their share get nothing new.
fn level(value: Option<u64>, limit: Option<u64>) -> Level {
    match (value, limit) {
        (Some(value), Some(limit)) if value >= limit => Level::Full,
        (Some(value), Some(limit)) if value >= limit - limit / 10 => Level::High,
        _ => Level::Calm,
    }
}

/// Bytes of memory that are the process' own.
fn memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// How many files are open. The kernel says it as the size of the folder since Linux 6.2; before, they are counted.
fn open_files() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

/// The memory that the system has for the process, in bytes: that of the machine, or less where its group may have less.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
    let own = fs::read_to_string("/proc/self/cgroup").ok();
    let own = own.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let group = own.and_then(|own| least_in(Path::new(GROUPS), own));
    machine.into_iter().chain(group).min()
}

/// The least that a group and those around it may have.
fn least_in(root: &Path, own: &str) -> Option<u64> {
    let folder: PathBuf = root.join(own);
    let groups = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let limits = groups.filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok());
    limits.min()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::News;
    use crate::live::pressure::Scarce;
    use crate::live::quota::{Charge, Limits, Users};
    use crate::model::ids::OrgId;
    use crate::model::quota::Quota;
    use crate::model::snapshot::Snapshot;
    use crate::model::tables::{OrgRow, Segment, Tables};

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(kilobytes("VmPeak:\t  99 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes("VmRSS:\t x kB\n", "VmRSS:"), None);
        assert!(memory().is_some_and(|bytes| bytes > 100_000) && open_files().is_some_and(|files| files > 2));
        assert!(available_memory() > memory());
    }

    #[test]
    fn the_least_of_all_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        for (group, most) in [("", "max\n"), ("a", "4096\n"), ("a/b", "8192\n")] {
            fs::write(root.path().join(group).join("memory.max"), most).unwrap();
        }
        assert_eq!(least_in(root.path(), "a/b"), Some(4096));
        assert_eq!(least_in(root.path(), ""), None);
    }

    fn org(id: &str) -> OrgRow {
        OrgRow {
            id: OrgId::parse(id).unwrap(),
            name: id.to_owned(),
            segment: Segment::Stable,
            version: 0,
            members: None,
            frontends: None,
            quota: Quota::default(),
            workspaces: Vec::new(),
            principals: Vec::new(),
            apps: Vec::new(),
            warehouses: Vec::new(),
            engines: Vec::new(),
            rules: Vec::new(),
        }
    }

    #[test]
    fn a_share_is_what_all_have_by_the_number_of_those_with_any() {
        let directory = Arc::new(Directory::default());
        let orgs = ["busy", "quiet", "idle"].map(org).into();
        directory.publish(Snapshot::build(Tables { orgs, ..Tables::default() }, None), News::All);
        let metrics = Arc::<Metrics>::default();
        let pressure = Arc::<Pressure>::default();
        let gauge = Gauge { pressure: Arc::clone(&pressure), directory, metrics, memory: Some(1), files: u64::MAX };
        let snapshot = gauge.directory.snapshot().unwrap();
        let users = Arc::new(Users::new(1));
        let begin = |id: &str| {
            let usage = &snapshot.org(id).unwrap().budget.usage;
            Charge::take(usage, &users, || 1, 0, &Limits::default()).unwrap()
        };
        let _under_way = ["busy", "busy", "busy", "busy", "quiet"].map(begin);
        assert_eq!(gauge.fair_share(), 3);
        assert_eq!(gauge.measure((Level::Calm, Level::Calm)), (Level::Full, Level::Calm));
        assert_eq!(pressure.refuses(0), Some(Scarce::Memory));
    }

    #[test]
    fn there_is_a_level_before_full() {
        let at = |value| level(Some(value), Some(100));
        assert_eq!([89, 90, 99, 100].map(at), [Level::Calm, Level::High, Level::High, Level::Full]);
        assert_eq!([level(Some(9), None), level(None, Some(9))], [Level::Calm; 2]);
    }
}
