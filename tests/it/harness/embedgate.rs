//! The real program, run as a user runs it.

use super::PATIENCE;
use super::process::{Process, Stream};
use anyhow::{Context as _, Result, ensure};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program with these arguments, without any configuration from the environment of the test run.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedgate"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EMBEDGATE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program in a folder of its own with this environment, as a container runs it.
fn program_in(folder: &Path, env: &[(String, String)], arguments: &[&str]) -> Command {
    let mut command = program(arguments);
    command.current_dir(folder).envs(env.iter().map(|(name, value)| (name, value)));
    command
}

/// How long the program may take to end once it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running `embedgate`. Dropping it kills it; [`Embedgate::stop`] ends it the way an operator does.
pub(crate) struct Embedgate {
    process: Process,
}

impl Embedgate {
    /// Starts the program with these arguments, and without any configuration from the environment of the test run.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Ok(Self { process: Process::spawn("embedgate", program(arguments))? })
    }

    /// The same in a folder, and with an environment.
    pub(crate) fn start_in(folder: &Path, env: &[(String, String)], arguments: &[&str]) -> Result<Self> {
        Ok(Self { process: Process::spawn("embedgate", program_in(folder, env, arguments))? })
    }

    /// Runs a command to its end, with `input` on its standard input.
    pub(crate) fn run(arguments: &[&str], input: &str) -> Result<Ended> {
        Self::finish(program(arguments), input)
    }

    /// The same in a folder, and with an environment.
    pub(crate) fn run_in(folder: &Path, env: &[(String, String)], arguments: &[&str]) -> Result<Ended> {
        Self::finish(program_in(folder, env, arguments), "")
    }

    fn finish(mut command: Command, input: &str) -> Result<Ended> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        match child.stdin.take().context("no standard input")?.write_all(input.as_bytes()) {
            // A command that refuses its arguments ends without reading.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok(Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Waits for a line of standard error in which `pick` finds what it looks for, and returns what it found.
    pub(crate) async fn wait_for_stderr<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.process.wait_for_line(Stream::Stderr, what, PATIENCE, pick).await
    }

    /// Sends it a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Everything it has said so far.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Puts `embedgate dev` before an app that runs on this machine.
    pub(crate) fn dev(upstream: &str) -> Result<Self> {
        Self::start(&["dev", "--upstream", upstream, "--listen", "127.0.0.1:0"])
    }

    /// Waits for a line of standard output that contains `text`, and returns the line.
    pub(crate) async fn wait_for_stdout(&mut self, text: &str) -> Result<String> {
        let pick = |line: &str| line.contains(text).then(|| line.to_owned());
        self.process.wait_for_line(Stream::Stdout, &format!("line with {text:?}"), PATIENCE, pick).await
    }

    /// Waits for the link that `dev` and `demo` print for the browser.
    pub(crate) async fn link(&mut self) -> Result<String> {
        self.process.wait_for_line(Stream::Stdout, "link to open", PATIENCE, link_in).await
    }

    /// Waits until a command has ended by itself; an error unless it did with this exit code.
    pub(crate) async fn ended(mut self, code: i32) -> Result<()> {
        let status = self.process.wait(PATIENCE).await?;
        ensure!(status.code() == Some(code), "embedgate ended with {status}:\n{}", self.process.output());
        Ok(())
    }

    /// Sends SIGTERM; an error unless the program then ends with exit code 0.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(STOP_WITHIN).await?;
        ensure!(status.code() == Some(0), "embedgate ended with {status} after SIGTERM:\n{}", self.process.output());
        Ok(())
    }
}

/// The first `http://` URL of a line whose first word is `open`.
fn link_in(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    (words.next() == Some("open")).then_some(())?;
    words.find(|word| word.starts_with("http://")).map(str::to_owned)
}
