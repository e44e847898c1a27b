//! Integration tests: the real program, with real apps behind it and a real browser before it.

mod admin;
mod browser;
mod cli;
mod credential;
mod directory;
mod harness;
mod layers;
mod secrets;
