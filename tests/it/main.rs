//! Integration tests: the real program, with real apps behind it and a real browser before it.

mod browser;
mod harness;
mod postgres;
