//! What has been counted while it was measured.

use crate::histogram::Histogram;
use crate::processes::Spent;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Tally {
    /// Between warming up and the end.
    measuring: Cell<bool>,
    answers: Cell<u64>,
    bytes: Cell<u64>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    took: RefCell<Histogram>,
}

impl Tally {
    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.get()
    }

    pub(crate) fn measure(&self, begins: bool) {
        self.measuring.set(begins);
    }

    /// Counts an answer if it is one that is measured.
    pub(crate) fn answer(&self, counts: bool, took: Duration, bytes: usize) {
        if counts {
            self.answers.set(self.answers.get() + 1);
            self.bytes.set(self.bytes.get() + bytes as u64);
            self.took.borrow_mut().add(took);
        }
    }

    /// Errors count whenever they come: a run with any is no measurement.
    pub(crate) fn error(&self, error: &impl Display) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
    }

    /// Requests that were due and have no answer yet.
    pub(crate) fn unanswered(&self, count: usize) {
        for _ in 0..count {
            self.error(&"not answered in time");
        }
    }

    pub(crate) fn report(&self, seconds: f64, spent: &Spent) -> Value {
        let took = self.took.borrow();
        let quantile = |share| took.quantile(share).map(|microseconds| (microseconds * 10.0).round() / 10.0);
        json!({
            "requests": self.answers.get(),
            "seconds": seconds,
            "errors": self.errors.get(),
            "first_error": *self.first_error.borrow(),
            "bytes": self.bytes.get(),
            "p50_us": quantile(0.5),
            "p90_us": quantile(0.9),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "cpu_seconds": spent.seconds,
            "kernel_share": spent.kernel_share,
            "noise": spent.noise,
        })
    }
}
