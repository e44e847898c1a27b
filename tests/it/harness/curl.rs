//! curl, as people and programs use it.

use super::PATIENCE;
use anyhow::{Context as _, Result, bail, ensure};
use std::process::Command;
use tokio::task::spawn_blocking;

/// What curl got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    /// The version of HTTP, as curl says it: `1.0`, `1.1` or `2`.
    pub(crate) version: String,
    /// Status and fields of each head, interim answers first. Names are in lower case.
    pub(crate) heads: Vec<(u16, Vec<String>)>,
    pub(crate) body: Vec<u8>,
    /// The fields behind the body.
    pub(crate) trailers: Vec<String>,
}

/// Runs curl with these arguments.
pub(crate) async fn curl(arguments: Vec<String>) -> Result<Got> {
    spawn_blocking(move || run(&arguments)).await?
}

fn run(arguments: &[String]) -> Result<Got> {
    let heads = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("curl");
    // No file of the user's, no address but ours, and heads apart from the body.
    command.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--path-as-is", "--globoff"]);
    command.args(["--max-time", &PATIENCE.as_secs().to_string(), "--write-out", "%{stderr}%{http_version}"]);
    let done = command.arg("--dump-header").arg(heads.path()).args(arguments).output();
    let done = done.context("curl does not run: run tests/setup")?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "curl {arguments:?}: {said}");
    let text: String = std::fs::read(heads.path())?.iter().copied().map(char::from).collect();
    let (heads, trailers) = parse(&text)?;
    // In place of a body that cannot be, curl writes the head once more.
    let body = if arguments.iter().any(|argument| argument == "--head") { Vec::new() } else { done.stdout };
    Ok(Got { version: said, heads, body, trailers })
}

type Heads = Vec<(u16, Vec<String>)>;

/// The heads, and the fields that stand in none.
fn parse(text: &str) -> Result<(Heads, Vec<String>)> {
    let (mut heads, mut trailers) = (Heads::new(), Vec::new());
    let mut is_open = false;
    for line in text.split("\r\n") {
        if line.starts_with("HTTP/") {
            let status = line.split(' ').nth(1).context("no status")?.parse()?;
            heads.push((status, Vec::new()));
            is_open = true;
        } else if line.is_empty() {
            is_open = false;
        } else {
            let (name, value) = line.split_once(':').with_context(|| format!("a line without a colon: {line:?}"))?;
            let field = format!("{}: {}", name.to_ascii_lowercase(), value.trim());
            match heads.last_mut() {
                Some((_, fields)) if is_open => fields.push(field),
                Some(_) => trailers.push(field),
                None => bail!("a field before all heads: {line:?}"),
            }
        }
    }
    Ok((heads, trailers))
}
