//! Integration tests: the real program, with real apps behind it and a real browser before it.

mod admin;
mod browser;
mod chaos;
mod cli;
mod credential;
mod databricks;
mod deploy;
mod directory;
mod docker;
mod engines;
mod firefly;
mod harness;
mod health;
mod http;
mod jwt;
mod layers;
mod postgres;
mod restart;
mod secrets;
