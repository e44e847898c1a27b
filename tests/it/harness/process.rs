//! A child process in a group of its own: its output is kept, and nothing of it outlives its handle.

use super::until;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which of its two outputs a process wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

type Lines = Arc<Mutex<Vec<(Stream, String)>>>;

/// A running program. Dropping it kills its whole process group.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    lines: Lines,
    readers: Vec<JoinHandle<()>>,
    ended: bool,
}

impl Process {
    /// Starts `command`; `name` is what error messages call it.
    pub(crate) fn spawn(name: &'static str, command: Command) -> Result<Self> {
        Self::spawn_with(name, command, Stdio::null(), Stdio::piped())
    }

    /// The same with something else as standard input and output.
    pub(crate) fn spawn_with(name: &'static str, mut command: Command, stdin: Stdio, stdout: Stdio) -> Result<Self> {
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        // A group of its own, because an app's workers and a browser's renderers are to end with it.
        command.process_group(0);
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: {}", program.display()))?;
        let lines = Lines::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(read_lines(Stream::Stdout, pipe, Arc::clone(&lines)));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(read_lines(Stream::Stderr, pipe, Arc::clone(&lines)));
        }
        Ok(Self { name, child, lines, readers, ended: false })
    }

    /// Waits for a line of `stream` in which `pick` finds what it looks for, and returns what it found.
    pub(crate) async fn wait_for_line<T>(
        &mut self,
        stream: Stream,
        what: &str,
        within: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let found = until(within, async || {
            // Asked before the lines are read: what a process says last must not be lost to its exit.
            let silent = self.readers.iter().all(JoinHandle::is_finished);
            let found = self.lines().iter().filter(|(of, _)| *of == stream).find_map(|(_, line)| pick(line));
            match found {
                None if silent => bail!("{} ended without {what}:\n{}", self.name, self.output()),
                found => Ok(found),
            }
        });
        match found.await? {
            Some(found) => Ok(found),
            None => bail!("no {what} from {} in {within:?}:\n{}", self.name, self.output()),
        }
    }

    /// An error, with everything the process said, if it has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.output()),
        }
    }

    /// Sends SIGTERM to the process and waits for its end.
    pub(crate) async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.end_by("TERM", within).await
    }

    /// Sends a signal that ends the process, and waits for its end.
    pub(crate) async fn end_by(&mut self, name: &str, within: Duration) -> Result<ExitStatus> {
        self.check_running()?;
        signal(name, &self.child.id().to_string())?;
        let Some(status) = until(within, async || Ok(self.child.try_wait()?)).await? else {
            bail!("{} still runs {within:?} after SIG{name}:\n{}", self.name, self.output());
        };
        self.ended = true;
        Ok(status)
    }

    /// Sends a signal to the process, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(name, &self.child.id().to_string())
    }

    /// Waits until the process has ended by itself and everything it said has been read.
    pub(crate) async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = until(within, async || {
            let silent = self.readers.iter().all(JoinHandle::is_finished);
            Ok(self.child.try_wait()?.filter(|_| silent))
        });
        let Some(status) = ended.await? else {
            bail!("{} still runs after {within:?}:\n{}", self.name, self.output());
        };
        self.ended = true;
        Ok(status)
    }

    /// The lines that the process has written to one of its outputs so far.
    pub(crate) fn text(&self, stream: Stream) -> String {
        let lines = self.lines();
        let lines = lines.iter().filter(|(of, _)| *of == stream);
        lines.flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
    }

    /// Everything the process has said so far, for error messages.
    pub(crate) fn output(&self) -> String {
        self.lines().iter().map(|(stream, line)| format!("  {stream:?}: {line}")).collect::<Vec<_>>().join("\n")
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Not `Child::kill` alone, which would leave the rest of the group behind. Errors have nowhere to go here, and
        // "no such process" is not one.
        let _ = signal("KILL", &format!("-{}", self.child.id()));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal with the shell's own `kill`: the standard library has only SIGKILL, and unsafe code is forbidden.
pub(crate) fn signal(name: &str, target: &str) -> Result<()> {
    let sent = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, name, target]).output()?;
    if !sent.status.success() {
        bail!("cannot send SIG{name} to {target}: {}", String::from_utf8_lossy(&sent.stderr));
    }
    Ok(())
}

/// Collects a pipe's lines on a thread, which ends with the pipe.
fn read_lines(stream: Stream, pipe: impl Read + Send + 'static, lines: Lines) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.lock().unwrap_or_else(PoisonError::into_inner).push((stream, text));
            line.clear();
        }
    })
}
