//! Log output that never makes a request wait: lines go through a bounded channel to one writing thread, and are counted
//! and dropped when its reader cannot keep up.

use crate::config::LogFormat;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

/// Writes waiting for the thread at most. Each is a line, or a batch of a worker.
const QUEUE: usize = 256;

/// Where log lines are sent.
#[derive(Clone)]
pub struct Sink {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Hands lines over, each ending in a line feed; never waits.
    pub fn send(&self, lines: Vec<u8>) {
        if self.lines.try_send(lines).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many writes have been dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The writing thread. Dropping it gives what is queued a moment to be written.
pub struct Writer {
    sink: Sink,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let thread = thread::Builder::new().name("log".into()).spawn(move || write(&queue, out, &lost))?;
        Ok(Self { sink: Sink { lines, dropped }, thread: Some(thread) })
    }

    /// Where to send lines.
    #[must_use]
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }
}

/// An empty message asks the thread to stop.
fn write(queue: &Receiver<Vec<u8>>, mut out: impl Write, lost: &AtomicU64) {
    while let Ok(lines) = queue.recv() {
        if lines.is_empty() {
            break;
        }
        // A full disk or a closed pipe must not end the process: the lines are lost and counted.
        if out.write_all(&lines).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
    let _ = out.flush();
}

/// How long the end of the process waits for the log to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + LAST_WORDS;
        while self.sink.lines.try_send(Vec::new()).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The library for HTTP/2 to upstreams tells of what goes over the wire, in which credentials and sessions may stand.
const SILENT: &str = "h2=off";

/// Makes `tracing` write to the sink.
///
/// # Errors
/// When `level` is neither a level nor levels of targets.
pub fn subscriber(
    sink: Sink,
    format: LogFormat,
    level: &str,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, ParseError> {
    let filter: Targets = format!("{level},{SILENT}").parse()?;
    let (all, layer) = (tracing_subscriber::registry(), fmt::layer().with_writer(sink).with_ansi(false));
    Ok(match format {
        LogFormat::Json => Box::new(all.with(layer.json().flatten_event(true).with_current_span(false)).with(filter)),
        LogFormat::Text => Box::new(all.with(layer.with_target(false)).with(filter)),
    })
}

/// Collects one event of `tracing` and sends it when dropped.
pub struct Line {
    text: Vec<u8>,
    sink: Sink,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.sink.send(std::mem::take(&mut self.text));
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::with_capacity(256), sink: self.clone() }
    }
}

/// A time as RFC 3339 in UTC with microseconds. By hand, like all that is written for every request: formatting is a good
/// part of what a request costs. What does not change within a second is kept.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    second: u64,
    text: [u8; 27],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000000Z" }
    }
}

impl Stamp {
    /// Sets it to so many microseconds since 1970-01-01 UTC.
    pub fn set(&mut self, micros: u64) {
        let second = micros / 1_000_000;
        if second != self.second {
            self.second = second;
            let (year, month, day) = civil(second / 86_400);
            let of_day = second % 86_400;
            let parts = [year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60];
            for (at, part) in [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().zip(parts) {
                write_digits(part, &mut self.text[at]);
            }
        }
        write_digits(micros % 1_000_000, &mut self.text[20..26]);
    }

    /// What is written.
    #[must_use]
    pub fn text(&self) -> &[u8; 27] {
        &self.text
    }
}

/// Writes microseconds as milliseconds with three digits behind the point.
pub fn write_millis(micros: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let mut rest = *b".000";
    write_digits(micros % 1000, &mut rest[1..]);
    out.extend_from_slice(&rest);
}

/// Writes the last digits of a number, as many as there is room for.
#[inline]
fn write_digits(mut number: u64, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_795_326_839, "2026-11-22T05:53:59.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let mut stamp = Stamp::default();
            stamp.set(seconds * 1_000_000);
            assert_eq!(str::from_utf8(stamp.text()).unwrap(), expected);
        }
    }

    #[test]
    fn a_time_is_right_whatever_was_there_before() {
        let mut stamp = Stamp::default();
        for (micros, expected) in [
            (7, "1970-01-01T00:00:00.000007Z"),
            (59_999_999, "1970-01-01T00:00:59.999999Z"),
            (59_000_123, "1970-01-01T00:00:59.000123Z"),
            (86_400_000_000, "1970-01-02T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
        ] {
            stamp.set(micros);
            assert_eq!(str::from_utf8(stamp.text()).unwrap(), expected);
        }
    }

    #[test]
    fn spans_are_milliseconds_to_the_microsecond() {
        for (micros, expected) in
            [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1_000, "1.000"), (61_234_056, "61234.056")]
        {
            let mut out = Vec::new();
            write_millis(micros, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn parts_have_levels_of_their_own() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let written = Written::default();
            let writer = Writer::start(written.clone()).unwrap();
            let subscriber = subscriber(writer.sink(), format, "warn,embedgate::plane=debug").unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!("heard of all");
                tracing::info!("not heard of all");
                tracing::debug!(target: "embedgate::plane::request", "heard of a part");
                tracing::trace!(target: "embedgate::plane", "not heard of a part");
                tracing::error!(target: "h2::codec", "not heard of HTTP/2");
            });
            drop(writer);
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("heard of all") && text.contains("heard of a part"), "{text}");
            assert!(!text.contains("not heard"), "{text}");
        }
    }

    /// A reader that never reads.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_not_requests() {
        let writer = Writer::start(Stuck).unwrap();
        let sink = writer.sink();
        for _ in 0..QUEUE + 10 {
            sink.send(b"line\n".to_vec());
        }
        assert!(sink.dropped() >= 9);
    }
}
