//! Texts in the keys of a principal, and the header fields that it adds.

use crate::config::reader::Section;
use crate::config::tree::Table;
use crate::wire::fields::Name;

/// Longest of the texts that are no secrets.
const MAX_TEXT: usize = 1024;
/// Most fields, or parameters of a form, that a principal adds.
const MAX_PAIRS: usize = 16;

/// A text without surprises.
pub(super) fn plain(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err("holds line breaks or other control characters, or is longer than 1024 bytes");
    }
    Ok(text.to_owned())
}

/// Letters, digits and what stands between them in names that others give.
pub(super) fn word(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.len() > 128 || !text.bytes().all(fits) {
        return Err("holds something else than letters, digits, '-', '_' and '.', or is longer than 128 bytes");
    }
    Ok(text.to_owned())
}

/// A client id for HTTP Basic as it is, where a colon would end it (RFC 7617 2).
pub(super) fn client_id(text: &str) -> Result<String, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        Ok(text.to_owned())
    } else {
        Err("a client id has no spaces, colons or letters beyond ASCII")
    }
}

/// It becomes a part of a path.
pub(super) fn account_id(text: &str) -> Result<String, &'static str> {
    is_path_part(text).then(|| text.to_owned()).ok_or("an account id has only letters, digits and '-'")
}

/// It becomes a part of a path.
pub(super) fn tenant(text: &str) -> Result<String, &'static str> {
    let fits = text.split('.').all(is_path_part);
    fits.then(|| text.to_owned()).ok_or("a tenant is an id or a domain: letters, digits, '-' and single '.'")
}

fn is_path_part(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Words with single spaces between them (RFC 6749 3.3).
pub(super) fn scope(text: &str) -> Result<String, &'static str> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if text.len() <= MAX_TEXT && text.split(' ').all(is_word) {
        Ok(text.to_owned())
    } else {
        Err("is no scope: words of ASCII without quotes and backslashes, and single spaces between them")
    }
}

/// What a header field takes (RFC 9110 5.5), in a secret.
pub(super) fn secret_field(text: &str) -> Result<(), &'static str> {
    field_value(text).map(drop)
}

fn field_value(text: &str) -> Result<String, &'static str> {
    let fits = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim() == text;
    if fits && text.len() <= 8192 {
        Ok(text.to_owned())
    } else {
        Err("holds what no header field takes: line breaks, letters beyond ASCII, or spaces around it")
    }
}

/// The name of a field that the gateway has no rules for.
pub(super) fn field_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
    if text.is_empty() || text.len() > 100 || !text.bytes().all(is_token) {
        return Err(format!("{text:?} is not the name of a header field, or has underscores, which servers confuse"));
    }
    if Name::of(text.as_bytes()) != Name::Other {
        return Err(format!("the header field {text:?} is the gateway's to set; choose another"));
    }
    Ok(text.to_owned())
}

/// Whether a table of fields has one of this name.
pub(super) fn is_owned(fields: &Table, name: &str) -> bool {
    fields.keys().any(|own| own.eq_ignore_ascii_case(name))
}

/// The table `headers`.
pub(super) fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let pairs = pairs(section, "headers", field_name, field_value);
    let mut seen: Vec<String> = Vec::new();
    for (name, _) in &pairs {
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower)
            && let Some(item) = section.get("headers")
        {
            item.wrong(format!("names the header field {name:?} twice; keep one"));
        }
        seen.push(lower);
    }
    pairs
}

/// What the gateway puts into forms itself.
const RESERVED: [&str; 10] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
];

/// The table `params`.
pub(super) fn params(section: &Section<'_>) -> Vec<(String, String)> {
    let name = |name: &str| {
        if RESERVED.contains(&name) {
            return Err(format!("{name:?} has a key of its own, or is the gateway's to set"));
        }
        plain(name).map_err(str::to_owned)
    };
    pairs(section, "params", name, plain)
}

/// A table of texts.
fn pairs(
    section: &Section<'_>,
    key: &str,
    name: impl Fn(&str) -> Result<String, String>,
    value: impl Fn(&str) -> Result<String, &'static str>,
) -> Vec<(String, String)> {
    let Some(item) = section.get(key) else { return Vec::new() };
    let entries = item.entries();
    if entries.len() > MAX_PAIRS {
        item.wrong(format!("has more than {MAX_PAIRS} entries"));
        return Vec::new();
    }
    let pair = |(written, entry): &(&str, crate::config::reader::Item<'_>)| {
        let name = name(written).map_err(|error| entry.wrong(error)).ok();
        Some((name?, entry.parsed(&value)?))
    };
    entries.iter().filter_map(pair).collect()
}
