//! When requests are due: a Poisson process from a seed, so that every proxy meets the same moments.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

pub(crate) struct Arrivals {
    timer: AsyncFd<OwnedFd>,
    due: Instant,
    rate: f64,
    state: u64,
}

impl Arrivals {
    pub(crate) fn new(rate: f64, seed: u64) -> io::Result<Self> {
        // The runtime's own timers have a resolution of a millisecond, which is several requests.
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { timer: register(timer)?, due: Instant::now(), rate, state: seed })
    }

    /// Waits until the next request is due, and says when that was: in the past if this was late.
    pub(crate) async fn next(&mut self) -> io::Result<Instant> {
        let gap = self.gap();
        self.due += gap;
        let wait = self.due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            self.sleep(wait).await?;
        }
        Ok(self.due)
    }

    fn gap(&mut self) -> Duration {
        // SplitMix64; the upper 53 bits make a number below 1.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() / self.rate)
    }

    async fn sleep(&self, wait: Duration) -> io::Result<()> {
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        let timer = Itimerspec { it_interval: once, it_value: at };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        let mut ready = self.timer.readable().await?;
        // Setting the timer again takes its readiness back in the kernel, so that it need not be read.
        ready.clear_ready();
        Ok(())
    }
}

#[allow(
    deprecated,
    reason = "what replaces it is unsafe; a descriptor that is owned, and stays where it is, is what both want"
)]
fn register(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(timer)
}
