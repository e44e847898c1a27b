//! Processor time of processes, from /proc: nanoseconds of the scheduler's accounting, all threads together. What part of
//! it was the kernel's is told in clock ticks only, and so is what everybody else on the machine has used.

use std::fs::{read_dir, read_to_string};

/// What was spent so far.
pub(crate) struct Clock {
    proxy: Time,
    beside: Time,
    /// Ticks of all cores that were not idle, and all ticks.
    machine: (u64, u64),
}

/// What was spent between two readings.
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    pub(crate) kernel_share: f64,
    /// The share of the machine's time that went to nobody who takes part in the measurement.
    pub(crate) noise: f64,
}

#[derive(Default, Clone, Copy)]
struct Time {
    nanoseconds: u64,
    user_ticks: u64,
    kernel_ticks: u64,
}

impl Clock {
    /// This process counts among those `beside`.
    pub(crate) fn read(proxy: &[u32], beside: &[u32]) -> Self {
        let own = [std::process::id()];
        Self { proxy: time_of(proxy), beside: time_of(beside).plus(time_of(&own)), machine: machine() }
    }

    pub(crate) fn until(&self, end: &Self) -> Spent {
        let (proxy, beside) = (end.proxy.since(self.proxy), end.beside.since(self.beside));
        let ticks = proxy.user_ticks + proxy.kernel_ticks;
        let share = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
        // Not all of what the kernel counts as waiting only rises.
        let busy = end.machine.0.saturating_sub(self.machine.0);
        let all = end.machine.1.saturating_sub(self.machine.1);
        let ours = ticks + beside.user_ticks + beside.kernel_ticks;
        Spent {
            seconds: proxy.nanoseconds as f64 / 1e9,
            kernel_share: share(proxy.kernel_ticks as f64, ticks),
            noise: share(busy.saturating_sub(ours) as f64, all),
        }
    }
}

impl Time {
    fn plus(self, other: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds + other.nanoseconds,
            user_ticks: self.user_ticks + other.user_ticks,
            kernel_ticks: self.kernel_ticks + other.kernel_ticks,
        }
    }

    /// Threads that have ended take their time with them.
    fn since(self, begin: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_sub(begin.nanoseconds),
            user_ticks: self.user_ticks.saturating_sub(begin.user_ticks),
            kernel_ticks: self.kernel_ticks.saturating_sub(begin.kernel_ticks),
        }
    }
}

fn time_of(pids: &[u32]) -> Time {
    pids.iter().fold(Time::default(), |sum, pid| {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before the last parenthesis may hold anything; behind it the 12th and 13th are utime and stime.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|field| field.parse().ok()).unwrap_or_default();
        sum.plus(Time { nanoseconds: scheduled(*pid), user_ticks: ticks(), kernel_ticks: ticks() })
    })
}

/// Of all threads, in nanoseconds.
fn scheduled(pid: u32) -> u64 {
    let threads = read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| read_to_string(thread.path().join("schedstat")).ok());
    stats.filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn machine() -> (u64, u64) {
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in user already.
    let ticks: Vec<u64> = ticks.take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    let all = ticks.iter().sum();
    (all - ticks.iter().skip(3).take(2).sum::<u64>(), all)
}
