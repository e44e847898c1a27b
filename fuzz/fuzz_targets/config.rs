//! Configuration files. An input is the text of one; behind its last NUL, if it has any, stand overrides, one a line, with
//! names that begin behind `EMBEDGATE__`.
#![no_main]

use embedgate::config::mistake::Mistake;
use embedgate::config::{Config, Env};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// The variable in which a configuration finds its key, and the key.
const KEY: (&str, &str) = ("KEY", "8f1ce5b05a7d92e36c4bd0f8a1396e57c2847fa0be9d63514e2c78d19b3f06a5");

fuzz_target!(|input: &str| {
    let (text, overrides) = input.rsplit_once('\0').unwrap_or((input, ""));
    let env = env(overrides);
    let file = Path::new("embedgate.toml");
    let mistakes = Config::parse(text, file, &env).err();
    assert_eq!(Config::parse(text, file, &env).err(), mistakes, "read twice");
    let Some(mistakes) = mistakes else { return };
    assert!(!mistakes.0.is_empty(), "refused for nothing");
    assert!(mistakes.0.is_sorted_by_key(|mistake| mistake.line.unwrap_or(usize::MAX)), "out of order");
    let shown = mistakes.to_string();
    assert_eq!(shown.split('\n').count(), mistakes.0.len(), "not a line each: {shown:?}");
    // What is in the text may be repeated, unless it is a secret; that is no matter of a fuzzer's guesses.
    assert!(input.contains(KEY.1) || !shown.contains(KEY.1), "a secret is shown: {shown}");
    mistakes.0.iter().for_each(|mistake| assert_is_helpful(mistake, text));
});

fn env(overrides: &str) -> Env {
    let pairs = overrides.lines().filter_map(|line| line.split_once('='));
    let variables = pairs.map(|(name, value)| (format!("EMBEDGATE__{name}"), value.to_owned()));
    variables.chain([(KEY.0.to_owned(), KEY.1.to_owned())]).collect()
}

/// Asserts that a mistake says something, and that its line is one of the text.
fn assert_is_helpful(mistake: &Mistake, text: &str) {
    assert!(!mistake.message.is_empty(), "{mistake:?}");
    let lines = text.split('\n').count();
    assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake:?} of {lines}");
}
