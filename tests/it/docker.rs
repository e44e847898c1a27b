//! The Dockerfile, by reading it: there is no container engine where the tests run, but most of what breaks a build can
//! be seen without one.

use anyhow::{Context as _, Result, bail, ensure};
use embedgate::config::{Config, Env};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> Result<String> {
    fs::read_to_string(Path::new(ROOT).join(path)).with_context(|| format!("cannot read {path}"))
}

/// An instruction, and what follows it with its lines joined.
struct Instruction {
    name: String,
    rest: String,
}

/// The instructions of the Dockerfile, without comments.
fn instructions() -> Result<Vec<Instruction>> {
    let mut instructions = Vec::new();
    let mut open = String::new();
    for line in read("Dockerfile")?.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            open.push_str(part);
            continue;
        }
        open.push_str(line);
        let (name, rest) = open.split_once(char::is_whitespace).context("an instruction without arguments")?;
        instructions.push(Instruction { name: name.to_uppercase(), rest: rest.trim().to_owned() });
        open.clear();
    }
    ensure!(open.is_empty(), "the last line goes on: {open}");
    Ok(instructions)
}

/// What the one instruction of this name in the last stage says.
fn final_stage(name: &str) -> Result<String> {
    let mut found = Vec::new();
    for instruction in instructions()? {
        if instruction.name == "FROM" {
            found.clear();
        } else if instruction.name == name {
            found.push(instruction.rest);
        }
    }
    match <[String; 1]>::try_from(found) {
        Ok([rest]) => Ok(rest),
        Err(found) => bail!("{} times {name} in the last stage: {found:?}", found.len()),
    }
}

/// Sources and destination of a COPY, and whether they come from another stage instead of the build context.
fn copy(rest: &str) -> Result<(bool, Vec<&str>, &str)> {
    let (flags, mut paths): (Vec<_>, Vec<_>) = rest.split_whitespace().partition(|word| word.starts_with("--"));
    let destination = paths.pop().context("COPY without a destination")?;
    Ok((flags.iter().any(|flag| flag.starts_with("--from=")), paths, destination))
}

/// The paths of the build context that are copied.
fn copied() -> Result<Vec<String>> {
    let mut copied = Vec::new();
    for instruction in instructions()? {
        ensure!(instruction.name != "ADD", "ADD is not looked into here: COPY does the same");
        if instruction.name == "COPY"
            && let (false, sources, _) = copy(&instruction.rest)?
        {
            copied.extend(sources.into_iter().map(str::to_owned));
        }
    }
    ensure!(!copied.is_empty(), "the Dockerfile copies nothing");
    Ok(copied)
}

/// The commands that RUN instructions give to cargo.
fn cargo_commands() -> Result<Vec<String>> {
    let runs = instructions()?.into_iter().filter(|instruction| instruction.name == "RUN");
    let commands = runs.flat_map(|run| run.rest.split("&&").map(|part| part.trim().to_owned()).collect::<Vec<_>>());
    Ok(commands.filter(|command| command.starts_with("cargo ")).collect())
}

/// The file and everything below it, as paths from the root.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let full = Path::new(ROOT).join(path);
    if !full.is_dir() {
        ensure!(full.is_file(), "{} does not exist", path.display());
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(full)? {
        found.extend(files(&path.join(entry?.file_name()))?);
    }
    Ok(found)
}

/// All files of the build context that are copied.
fn copied_files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in copied()? {
        found.extend(files(Path::new(&path))?);
    }
    Ok(found)
}

/// Whether .dockerignore keeps a file out: the last line that matches it or a folder that it is in decides.
fn is_ignored(rules: &str, file: &Path) -> Result<bool> {
    let mut ignored = false;
    for line in rules.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let pattern = line.strip_prefix('!').unwrap_or(line).trim_matches('/');
        let parts: Vec<_> = pattern.split('/').collect();
        ensure!(
            parts.iter().all(|part| *part == "*" || !part.contains(['*', '?', '[', '\\'])),
            "this test does not know the pattern {line:?}"
        );
        let names: Vec<_> = file.components().map(|component| component.as_os_str().to_string_lossy()).collect();
        if parts.len() <= names.len() && parts.iter().zip(&names).all(|(part, name)| *part == "*" || part == name) {
            ignored = !line.starts_with('!');
        }
    }
    Ok(ignored)
}

/// The path without `..`, as far as text tells.
fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

#[test]
fn what_is_copied_exists_and_is_not_ignored() -> Result<()> {
    let rules = read(".dockerignore")?;
    for file in copied_files()? {
        ensure!(!is_ignored(&rules, &file)?, ".dockerignore keeps {} out of the build", file.display());
    }
    for secret in [".git/config", "target/release/embedgate", "config/directory.toml", "tests/.venv/bin/python"] {
        ensure!(is_ignored(&rules, Path::new(secret))?, ".dockerignore lets {secret} into the build");
    }
    Ok(())
}

#[test]
fn the_manifest_is_whole_without_what_is_not_copied() -> Result<()> {
    let context = tempfile::tempdir()?;
    for file in copied_files()? {
        let target = context.path().join(&file);
        fs::create_dir_all(target.parent().context("a file without a folder")?)?;
        fs::copy(Path::new(ROOT).join(&file), target)?;
    }
    // A build fails where the manifest names a target whose source is not there. Cargo looks at that before it looks for
    // the program, and with a name that there is not, nothing is built.
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--offline", "--bin", "no-such-program"]).current_dir(context.path());
    let said = command.output()?.stderr;
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains("no bin target named `no-such-program`"), "{said}");
    Ok(())
}

#[test]
fn what_the_program_includes_is_copied() -> Result<()> {
    let copied = copied_files()?;
    let sources = files(Path::new("src"))?;
    let is_built = |file: &Path| file.extension().is_some_and(|end| end == "rs") && !file.ends_with("tests.rs");
    for source in sources.iter().filter(|source| is_built(source)) {
        let text = read(&source.to_string_lossy())?;
        for kind in ["include_str!(\"", "include_bytes!(\""] {
            for rest in text.split(kind).skip(1) {
                let (path, _) = rest.split_once('"').with_context(|| format!("{}: no end quote", source.display()))?;
                let included = normalised(&source.with_file_name(path));
                ensure!(
                    copied.contains(&included),
                    "{} includes {}, which the Dockerfile does not copy",
                    source.display(),
                    included.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn ci_builds_with_the_same_command() -> Result<()> {
    let script = read(".ci/run")?;
    let commands = cargo_commands()?;
    ensure!(!commands.is_empty(), "the Dockerfile does not build anything");
    for command in commands {
        ensure!(script.lines().any(|line| line.trim() == command), ".ci/run does not run {command:?}");
        for flag in ["--release", "--locked"] {
            ensure!(command.split_whitespace().any(|word| word == flag), "{command:?} has no {flag}");
        }
    }
    Ok(())
}

#[test]
fn it_runs_as_nobody_and_stops_when_asked() -> Result<()> {
    let user = final_stage("USER")?;
    let uid: u32 = user.split(':').next().context("no user")?.parse().context("the user has to be a number")?;
    ensure!(uid != 0, "runs as root");
    ensure!(final_stage("STOPSIGNAL")? == "SIGTERM", "another signal than the one that drains");
    Ok(())
}

#[test]
fn it_starts_and_asks_the_program_that_was_built() -> Result<()> {
    let start: Vec<String> = serde_json::from_str(&final_stage("ENTRYPOINT")?)?;
    let [program] = &start[..] else { bail!("more than a program to start: {start:?}") };
    let builds = instructions()?;
    let built = builds.iter().filter(|instruction| instruction.name == "COPY").map(|made| copy(&made.rest));
    let built: Vec<_> = built.collect::<Result<_>>()?;
    ensure!(
        built.iter().any(|(made, from, to)| *made && to == program && from == &["/build/target/release/embedgate"]),
        "{program} is not what was built"
    );
    let health = final_stage("HEALTHCHECK")?;
    let (_, health) = health.split_once("CMD").context("a health check without a command")?;
    let health: Vec<String> = serde_json::from_str(health.trim())?;
    ensure!(health.first() == Some(program), "the health check runs {health:?}");
    Ok(())
}

#[test]
fn it_exposes_the_ports_of_the_configuration() -> Result<()> {
    let env = Env::from([("EMBEDGATE_SESSION_KEY".to_owned(), "0".repeat(64))]);
    let path = Path::new(ROOT).join("config/embedgate.toml");
    let config = Config::load(&path, &env).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let ports = [config.server.listen.port(), config.admin.listen.port()].map(|port| port.to_string());
    let exposed = final_stage("EXPOSE")?;
    ensure!(exposed.split_whitespace().eq(ports.iter()), "EXPOSE {exposed}, but the ports are {ports:?}");
    Ok(())
}
