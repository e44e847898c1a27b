//! Writes into a statement whose it is, where the configuration wants so: beside the client's own tags or in front of its text.
//! A body in which only some readers would find what was written is refused; one that has no place for it goes on as it came.

use super::scan::{Marks, Place};
use crate::config::Attribution;
use crate::model::reject::{Class, Reject};
use crate::plane::account::Account;
use crate::plane::attribution::{Author, RESERVED};
use crate::plane::held::Held;
use crate::plane::worker::Worker;
use std::ops::Range;

/// Adds to a body; its marks are those of the bytes it holds.
///
/// # Errors
/// [`Reject`] when the body could be read as saying something else of whose it is.
pub(super) fn attribute(worker: &Worker, body: &mut Held, marks: Marks, account: &Account) -> Result<(), Reject> {
    let settings = &worker.plane.settings;
    let Some(author) = account.session.as_ref().map(|session| Author::new(session, &account.request_id)) else {
        return Ok(());
    };
    let change = match settings.sql.attribution {
        Attribution::Off => return Ok(()),
        Attribution::Tags => tags(body.bytes(), marks, author)?,
        Attribution::Comment => comment(marks, author)?,
    };
    let changed = change.is_some_and(|(part, text)| body.replace(part, &text, settings.statement_bytes));
    if !changed {
        worker.plane.metrics.sql.unattributed.increment(1);
    }
    Ok(())
}

/// What is written where; none where there is no place for it.
type Change = Option<(Range<usize>, String)>;

fn tags(body: &[u8], marks: Marks, author: Author<'_>) -> Result<Change, Reject> {
    let ours = author.query_tags();
    Ok(match marks.tags {
        Place::Missing => Some((marks.end..marks.end, format!(r#","query_tags":[{ours}]"#))),
        Place::Null(at) => Some((at..at + "null".len(), format!("[{ours}]"))),
        Place::List { start, end: Some(end) } => {
            let theirs = body[start..end].trim_ascii();
            if could_be_ours(theirs) {
                let cause = "The query_tags hold embedgate_, with which only the gateway's own begin. Rename them.";
                return Err(Reject::new(Class::BadBody, cause));
            }
            let comma = if theirs.is_empty() { "" } else { "," };
            Some((start..start, format!("{ours}{comma}")))
        }
        Place::Ambiguous => return Err(ambiguous("query_tags")),
        Place::List { end: None, .. } | Place::Text(_) | Place::Other => None,
    })
}

fn comment(marks: Marks, author: Author<'_>) -> Result<Change, Reject> {
    match marks.text {
        Place::Text(at) => Ok(Some((at..at, author.comment()))),
        Place::Ambiguous => Err(ambiguous("statement")),
        Place::Missing | Place::List { .. } | Place::Null(_) | Place::Other => Ok(None),
    }
}

fn ambiguous(key: &str) -> Reject {
    let cause = format!("The body has a key that could be read as {key} more than once, or not written so.");
    Reject::new(Class::BadBody, cause)
}

/// Whether a client's tags hold what only the gateway's own may, or a letter that is spelled as an escape: nobody needs that,
/// and it could spell the same.
fn could_be_ours(tags: &[u8]) -> bool {
    let is_spelled = |escape: &[u8]| escape.starts_with(b"\\u00") && matches!(escape.get(4), Some(b'4'..=b'7'));
    tags.windows(RESERVED.len()).any(|part| part.eq_ignore_ascii_case(RESERVED)) || tags.windows(6).any(is_spelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::databricks::scan::Scanner;
    use crate::session::{Parts, Session};
    use serde_json::{Value, json};

    /// What becomes of a body, which is read byte by byte: none if it is not changed.
    fn changed(
        body: &str,
        how: fn(&[u8], Marks, Author<'_>) -> Result<Change, Reject>,
    ) -> Result<Option<Value>, String> {
        let (id, user, email) = ([0; 16], "u1", "ann\"*/@acme.example");
        let session = Session::new(Parts { id, issued: 0, expires: 9, org: "acme", user, email, app: None }).unwrap();
        let mut scanner = Scanner::new();
        body.as_bytes().chunks(1).for_each(|piece| scanner.push(piece).unwrap());
        let (_, marks) = scanner.finish().unwrap();
        let change = how(body.as_bytes(), marks, Author::new(&session, &[b'7'; 32]));
        let change = change.map_err(|reject| reject.cause.into_owned())?;
        Ok(change.map(|(part, text)| {
            let mut bytes = body.as_bytes().to_vec();
            bytes.splice(part, text.bytes());
            serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{body}: {error}"))
        }))
    }

    fn ours() -> [Value; 3] {
        let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
        [
            tag("embedgate_user", "ann%22%2A%2F@acme.example"),
            tag("embedgate_org", "acme"),
            tag("embedgate_request", &"7".repeat(32)),
        ]
    }

    #[test]
    fn tags_are_added_to_those_that_are_there() {
        let own = json!({ "key": "team", "value": "caf\u{e9} \"[]\"" });
        let [user, org, request] = ours();
        let with = |own: &[&Value]| {
            Value::from([&[&user, &org, &request], own].concat().into_iter().cloned().collect::<Vec<_>>())
        };
        for (body, expected) in [
            (r#" {"warehouse_id":"wh1","statement":"select '}'"} "#, with(&[])),
            (r#"{"query_tags" : null,"warehouse_id":"wh1"}"#, with(&[])),
            (r#"{"query_tags":[ ],"warehouse_id":"wh1"}"#, with(&[])),
            (
                r#"{"query_tags":[{"key":"team","value":"caf\u00e9 \"[]\""}],"warehouse_id":"wh1","parameters":[{"query_tags":[]}]}"#,
                with(&[&own]),
            ),
        ] {
            assert_eq!(changed(body, tags).unwrap().unwrap()["query_tags"], expected, "{body}");
        }
        assert_eq!(changed(r#"{"query_tags":"a","warehouse_id":"wh1"}"#, tags).unwrap(), None);
        assert_eq!(changed(r#"{"query_tags":{"a":[]},"warehouse_id":"wh1"}"#, tags).unwrap(), None);
    }

    #[test]
    fn a_body_that_could_name_somebody_else_is_refused() {
        for (body, says) in [
            (r#"{"query_tags":[],"query_tags":[],"warehouse_id":"wh1"}"#, "more than once"),
            (r#"{"queryTags":[],"warehouse_id":"wh1"}"#, "not written so"),
            (r#"{"query_tags":null,"QUERY_TAGS":[],"warehouse_id":"wh1"}"#, "not written so"),
            (r#"{"query_tags":[{"key":"Embedgate_user","value":"boss"}],"warehouse_id":"wh1"}"#, "Rename them"),
            (r#"{"query_tags":[{"key":"\u0065mbedgate_user"}],"warehouse_id":"wh1"}"#, "Rename them"),
        ] {
            let refused = changed(body, tags).unwrap_err();
            assert!(refused.contains(says), "{body}: {refused}");
        }
        let twice = r#"{"statement":"select 1","Statement":"select 2","warehouse_id":"wh1"}"#;
        assert!(changed(twice, |_, marks, author| comment(marks, author)).unwrap_err().contains("statement"));
    }

    #[test]
    fn a_comment_stands_in_front_of_the_text() {
        let commented = |body| changed(body, |_, marks, author| comment(marks, author)).unwrap();
        let body = r#"{"warehouse_id":"wh1","parameters":[{"statement":"x"}],"statement" : "select \"*/\" -- \u00fc"}"#;
        let text = commented(body).unwrap()["statement"].as_str().unwrap().to_owned();
        let (comment, rest) = text.split_once("*/ ").unwrap();
        assert_eq!(rest, "select \"*/\" -- \u{fc}");
        assert!(comment.starts_with("/* embedgate user=ann%22%2A%2F@acme.example org=acme request=777"), "{comment}");
        for body in [r#"{"warehouse_id":"wh1"}"#, r#"{"warehouse_id":"wh1","statement":null}"#] {
            assert_eq!(commented(body), None, "{body}");
        }
    }
}
