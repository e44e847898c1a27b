//! Who may import whom. The compiler lets every module use every other; this keeps the layers that the crate's
//! documentation draws.

use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A module, what it may name of this crate besides itself, and why.
struct Layer {
    name: &'static str,
    /// A module, or a module's part as in `model::url`.
    may_use: &'static [&'static str],
    #[allow(dead_code, reason = "for people")]
    why: &'static str,
}

/// From the bottom to the top: each may use only what stands before it, so nothing can go in a circle.
const LAYERS: [Layer; 20] = [
    Layer { name: "clock", may_use: &[], why: "a leaf" },
    Layer { name: "secret", may_use: &[], why: "a leaf" },
    Layer { name: "signing", may_use: &["secret"], why: "what is checked as a key is what signs" },
    Layer {
        name: "live",
        may_use: &["clock", "secret"],
        why: "the bottom, where plane and control meet: a token is a secret that ends at a time",
    },
    Layer {
        name: "model",
        may_use: &["clock", "live", "secret", "signing"],
        why: "rows hold secrets and keys, and what is indexed keeps its counters and tokens",
    },
    Layer {
        name: "vault",
        may_use: &["model::ids", "secret"],
        why: "it seals what directories keep; session and directory share it without knowing one another",
    },
    Layer { name: "wire", may_use: &["model::url"], why: "an authority is read in one place only" },
    Layer { name: "net", may_use: &["model::url"], why: "what is dialled has been checked as a URL" },
    Layer {
        name: "metrics",
        may_use: &["live::node", "live::pressure", "live::quota", "model::reject"],
        why: "refusals are counted by their class and by the limit that was reached, nodes out of use by the reason",
    },
    Layer {
        name: "config",
        may_use: &["model::ids", "model::quota", "model::url", "secret"],
        why: "ids, limits and URLs are checked by one rule",
    },
    Layer { name: "log", may_use: &["config::LogFormat"], why: "the form of lines is configured" },
    Layer {
        name: "session",
        may_use: &[
            "clock",
            "secret",
            "config",
            "metrics",
            "model::access",
            "model::ids",
            "model::url",
            "net::dial",
            "net::http",
            "vault",
            "wire",
        ],
        why: "keys are configured or fetched, tokens are found in fields; it knows no directory and no credential",
    },
    Layer {
        name: "directory",
        may_use: &["clock", "config", "metrics", "model", "net::tls", "secret", "signing", "vault", "wire::fields"],
        why: "the file is read as the configuration is, and its keys and field names are checked; it knows no session and no credential",
    },
    Layer {
        name: "credential",
        may_use: &["clock", "config", "live", "metrics", "model", "net", "secret", "signing"],
        why: "it fills the cells of principals, some with what keys sign; it knows no session and no directory",
    },
    Layer {
        name: "plane",
        may_use: &[
            "clock",
            "config",
            "credential",
            "directory",
            "live",
            "log",
            "metrics",
            "model",
            "net",
            "secret",
            "session",
            "wire",
        ],
        why: "the way of a request uses all below; never admin, app or cli",
    },
    Layer {
        name: "control",
        may_use: &["clock", "credential", "directory", "live", "metrics", "model", "net"],
        why: "it acts upon the world beside the requests; plane and control meet in live and in channels",
    },
    Layer {
        name: "admin",
        may_use: &["config", "directory", "model", "plane"],
        why: "it tells of the plane, which does not know of it, and changes what the directory says of clusters",
    },
    Layer {
        name: "app",
        may_use: &[
            "admin",
            "clock",
            "config",
            "control",
            "credential",
            "directory",
            "live",
            "log",
            "metrics",
            "model",
            "net",
            "plane",
            "secret",
            "session",
            "wire",
        ],
        why: "puts all parts together",
    },
    Layer { name: "demo", may_use: &["secret"], why: "what stands behind the gateway must not be made of it" },
    Layer {
        name: "cli",
        may_use: &[
            "app",
            "clock",
            "config",
            "credential",
            "demo",
            "directory",
            "live",
            "log",
            "metrics",
            "model",
            "net",
            "plane",
            "secret",
            "session",
            "vault",
        ],
        why: "the top, and the only one that knows the demo",
    },
];

/// Everything that is wrong with a file's imports. `file` is its path below `src`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let Some(own) = module.first().cloned() else { return violations_of_root(file, text) };
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == own) else {
        return vec![format!("{file}: the module {own} has no place in the layers")];
    };
    // `use crate::model` is more than `model::url` allows.
    let covers = |rule: &str, path: &[String]| {
        let mut names = path.iter();
        rule.split("::").all(|part| names.next().is_some_and(|name| name == part))
    };
    let allowed = |path: &[String]| layer.may_use.iter().any(|rule| covers(rule, path));
    let mut found = BTreeSet::new();
    for (line, path) in references(text, &module) {
        if path.first().is_some_and(|name| *name != own) && !allowed(&path) {
            found.insert(format!("{file}:{line}: {own} must not use {}", path.join("::")));
        }
    }
    found.into_iter().collect()
}

/// `lib.rs` only lists modules, and `main.rs` only starts the command line.
fn violations_of_root(file: &str, text: &str) -> Vec<String> {
    let code = without_tests(&without_comments(text));
    let wrong = |line: &&str| match file {
        "main.rs" => {
            line.contains("embedgate::")
                && line.matches("embedgate::").count() != line.matches("embedgate::cli::").count()
        }
        _ => line.trim_start().starts_with("use ") || line.contains("crate::"),
    };
    code.lines().filter(wrong).map(|line| format!("{file}: {line}")).collect()
}

/// The path of a file's module: none for the roots of the crate.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// What a text names of its crate, by `crate::` or by `super::`, in a `use` or in the middle of code, with its line.
fn references(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let code = without_tests(&without_comments(text));
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].bytes().next_back().unwrap_or(b' ');
            if before == b':' || before == b'_' || before.is_ascii_alphanumeric() {
                continue;
            }
            let mut paths = Vec::new();
            expand(&code[at..], &[], &mut paths);
            let line = code[..at].matches('\n').count() + 1;
            found.extend(paths.into_iter().filter_map(|path| Some((line, absolute(&path, module)?))));
        }
    }
    found
}

/// The paths of a tree such as `a::{b, c::{d, e}}`; returns what stands behind it.
fn expand<'a>(text: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = group.trim_start();
                match group.strip_prefix('}') {
                    Some(after) => return after,
                    None if group.is_empty() => return group,
                    None => {}
                }
                group = expand(group, &path, found).trim_start();
                // `as name` and the comma.
                group = group.find([',', '}']).map_or("", |at| &group[at..]);
                group = group.strip_prefix(',').unwrap_or(group);
            }
        }
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) => rest = after.trim_start(),
            None => break,
        }
    }
    found.push(path);
    rest
}

/// The path from the crate's root; none for one that stays within the module it is written in.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    if path.first().is_some_and(|first| first == "crate") {
        return Some(path[1..].to_vec());
    }
    let up = path.iter().take_while(|name| *name == "super").count();
    let base = &module[..module.len().checked_sub(up)?];
    Some([base, &path[up..]].concat())
}

/// The text with its comments blanked, line by line. No string of ours holds two slashes and then a path of the crate.
fn without_comments(text: &str) -> String {
    text.lines().flat_map(|line| [line.find("//").map_or(line, |at| &line[..at]), "\n"]).collect()
}

/// The text with its test modules blanked: tests may use what they like.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        kept.push_str(line);
        kept.push('\n');
        let opens = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(opens) {
            for inner in lines.by_ref() {
                kept.push('\n');
                if inner == "}" {
                    break;
                }
            }
        }
    }
    kept
}

/// All source files below `src` but those of tests, by their path below it.
fn sources() -> Result<Vec<(String, String)>> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, found)?;
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
        Ok(())
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files)?;
    let mut sources = Vec::new();
    for path in files {
        let name = path.strip_prefix(&src)?.to_string_lossy().into_owned();
        if !name.split('/').any(|part| matches!(part, "tests.rs" | "tests")) {
            sources.push((name, fs::read_to_string(&path)?));
        }
    }
    Ok(sources)
}

#[test]
fn no_module_uses_what_lies_above_it() -> Result<()> {
    let sources = sources()?;
    assert!(sources.len() > 50, "the sources were not found");
    let wrong: Vec<_> = sources.iter().flat_map(|(file, text)| violations(file, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_layer_is_there_and_stands_on_those_before_it() -> Result<()> {
    let modules: BTreeSet<_> = sources()?.iter().filter_map(|(file, _)| module_of(file).into_iter().next()).collect();
    let named: BTreeSet<_> = LAYERS.iter().map(|layer| layer.name.to_owned()).collect();
    assert_eq!(modules, named);
    for (at, layer) in LAYERS.iter().enumerate() {
        for used in layer.may_use {
            let used = used.split("::").next().unwrap_or_default();
            assert!(LAYERS[..at].iter().any(|below| below.name == used), "{} before {used}", layer.name);
        }
    }
    Ok(())
}

#[test]
fn a_planted_import_is_caught_in_whatever_form() {
    for (file, text) in [
        ("plane/route.rs", "use crate::admin::Admin;\n"),
        ("plane/route.rs", "use crate::{model::url::BaseUrl, admin::Admin};\n"),
        ("plane/route.rs", "use crate::{\n    model::{ids, url::{self as u, BaseUrl}},\n    admin,\n};\n"),
        ("plane/route.rs", "fn f() -> crate::app::Gateway {}\n"),
        ("plane/route.rs", "use super::super::app;\n"),
        ("plane.rs", "use super::{admin, model};\n"),
        ("model/url.rs", "pub(crate) use crate::plane as p;\n"),
        ("session/seal.rs", "use crate::directory::Directory;\n"),
        ("directory/sync.rs", "use crate::credential;\n"),
        ("credential.rs", "use crate::session::Session;\n"),
        ("live/token.rs", "use crate::model::ids::OrgId;\n"),
        ("wire/request.rs", "use crate::model::{url::BaseUrl, snapshot::Snapshot};\n"),
        ("wire/request.rs", "use crate::model;\n"),
        ("log.rs", "use crate::config::{Config, LogFormat};\n"),
        ("app.rs", "use crate::demo::Demo;\n"),
        ("demo/app.rs", "use crate::plane::Plane;\n"),
        ("clock.rs", "#[cfg(test)]\nmod tests {\n    use crate::app;\n}\nuse crate::secret::Secret;\n"),
        ("upstairs/room.rs", ""),
        ("lib.rs", "pub use crate::plane::Plane;\n"),
        ("main.rs", "use embedgate::plane::Plane;\n"),
    ] {
        assert_eq!(violations(file, text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("plane/route.rs", "use crate::model::reject::{Class, Reject};\nuse super::own;\nuse crate::plane::decide;\n"),
        ("plane/route.rs", "/// See [`crate::admin`].\nuse std::fmt; // not crate::app\n"),
        ("plane/route.rs", "#[cfg(test)]\nmod tests {\n    use crate::app::Start;\n}\n"),
        ("session/seal.rs", "use super::firefly;\nuse super::super::clock::Clock;\n"),
        ("main.rs", "    embedgate::cli::run(embedgate::cli::Cli::parse())\n"),
    ] {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}
