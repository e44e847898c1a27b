//! Calls of a workspace's API: what each is about, and which of them the users of an organisation may make.
//!
//! A path is read once and in one way. What a workspace could read in another way is refused before anybody asks whether
//! it is allowed, so that a rule and the workspace always mean the same call.

use super::ids::RuleId;

#[cfg(test)]
mod tests;

/// A call of a workspace's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The method, case-sensitive.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// What it does.
    pub operation: Operation,
    /// Whether every user of every organisation may make it.
    pub is_usual: bool,
    /// The warehouse that it is about: named by the path, or by a statement's body once that has been read.
    pub warehouse: Option<&'a str>,
    /// The statement that it is about, or the session for statements.
    pub statement: Option<&'a str>,
    /// The workspace that the client asks for.
    pub workspace: Option<&'a str>,
}

/// What the gateway has to know of a call besides whether it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Names its warehouse in the body: a statement to be run, or a session for statements to be opened.
    Execute,
    /// Lists warehouses, of which only the organisation's own may be shown.
    ListWarehouses,
    /// Anything else.
    Other,
}

/// A path that can be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path of the API with empty, dot or encoded segments, or with characters that have no place in one")]
pub struct Ambiguous;

/// The segments that tell what a call is about; longer paths are told by their beginning.
const SEGMENTS: usize = 9;

impl<'a> Call<'a> {
    /// Whether the warehouse has to run for it: to be looked at, started or changed it need not.
    #[must_use]
    pub fn needs_warehouse(&self) -> bool {
        self.operation == Operation::Execute || self.path.starts_with("/sql/")
    }

    /// What a method and a path ask for; none for a path that is none of an API's.
    ///
    /// # Errors
    /// [`Ambiguous`] when the workspace could read the path differently.
    pub fn of(method: &'a str, path: &'a str) -> Result<Option<Self>, Ambiguous> {
        if !is_api(path) {
            return Ok(None);
        }
        // Clients of the Statement Execution API write its first path with a slash behind it, too.
        let bare = if path == "/api/2.0/sql/statements/" { path.trim_end_matches('/') } else { path };
        let mut segments = [""; SEGMENTS];
        let mut count = 0;
        for segment in bare.split('/').skip(1) {
            if !is_plain(segment) {
                return Err(Ambiguous);
            }
            if let Some(slot) = segments.get_mut(count) {
                *slot = segment;
                count += 1;
            }
        }
        Ok(Some(Self::told(method, path, &segments[..count])))
    }

    fn told(method: &'a str, path: &'a str, segments: &[&'a str]) -> Self {
        use Operation::{Execute, ListWarehouses, Other};
        let other = (Other, false, None, None);
        let (operation, is_usual, warehouse, statement) = match (segments, method) {
            (["api", "2.0", "sql", rest @ ..], _) => match (rest, method) {
                (["statements" | "sessions"], "POST") => (Execute, true, None, None),
                (["statements", id], "GET" | "DELETE")
                | (["statements", id, "result", "chunks", _], "GET")
                | (["statements", id, "cancel"], "POST")
                | (["sessions", id], "DELETE") => (Other, true, None, Some(*id)),
                (["statements" | "sessions", id, ..], _) => (Other, false, None, Some(*id)),
                (["warehouses"], "GET") => (ListWarehouses, true, None, None),
                (["warehouses", id], "GET") => (Other, true, Some(*id), None),
                // Warehouses were called endpoints once, and still answer to it.
                (["warehouses" | "endpoints", id, ..], _) => (Other, false, Some(*id), None),
                _ => other,
            },
            // Thrift, which is posted; to get it only tells that it is there.
            (["sql", "1.0", "warehouses" | "endpoints", id], "POST" | "GET") => (Other, true, Some(*id), None),
            (["sql", "1.0", "warehouses" | "endpoints", id, ..], _) => (Other, false, Some(*id), None),
            (["api", "2.0", "preview", "scim", "v2", "Me"], "GET") => (Other, true, None, None),
            _ => other,
        };
        Self { method, path, operation, is_usual, warehouse, statement, workspace: None }
    }

    /// Anything that everybody may do in a workspace, or in a warehouse of it: for asking whether access is still there.
    #[must_use]
    pub fn usual(workspace: &'a str, warehouse: Option<&'a str>) -> Self {
        let (operation, workspace) = (Operation::Other, Some(workspace));
        Self { method: "GET", path: "/", operation, is_usual: true, warehouse, statement: None, workspace }
    }
}

/// Whether a path is one of an API's.
#[must_use]
pub fn is_api(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/sql/")
}

/// Whether a segment has no second reading: not empty, no dots alone, nothing encoded, no parameters behind a semicolon.
fn is_plain(segment: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@=+,".contains(&byte);
    segment.bytes().all(fits) && segment.bytes().any(|byte| byte != b'.')
}

/// Whether every segment of a path has one reading; the last one may be empty.
///
/// # Errors
/// [`Ambiguous`] when one has not.
pub(super) fn has_one_reading(path: &str) -> Result<(), Ambiguous> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    if bare.is_empty() || (bare.starts_with('/') && bare.split('/').skip(1).all(is_plain)) {
        Ok(())
    } else {
        Err(Ambiguous)
    }
}

/// Who may make calls besides the usual ones, and which, as a source delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    /// Unique within the organisation.
    pub id: RuleId,
    /// Users as sessions name them.
    pub members: Vec<Box<str>>,
    /// Users by their e-mail addresses, lower case. With no member and no user, it is for everybody of the organisation.
    pub users: Vec<String>,
    /// The calls.
    pub allow: Vec<Pattern>,
    /// What may be done to the organisation's warehouses.
    pub warehouses: Vec<Action>,
}

/// Something that may be done to a warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Change its size and the like.
    Edit,
}

impl Action {
    /// The words of files and columns.
    pub const NAMES: [(&'static str, Self); 3] = [("start", Self::Start), ("stop", Self::Stop), ("edit", Self::Edit)];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Edit => "edit",
        }
    }
}

/// A rule as the snapshot holds it.
#[derive(Debug)]
pub struct Rule {
    members: Box<[Box<str>]>,
    users: Box<[String]>,
    allow: Box<[Pattern]>,
}

impl From<RuleRow> for Rule {
    fn from(row: RuleRow) -> Self {
        let RuleRow { mut members, mut users, allow, warehouses, .. } = row;
        members.sort_unstable();
        users.sort_unstable();
        let actions = warehouses.into_iter().map(Pattern::of_action);
        let allow = allow.into_iter().chain(actions).collect();
        Self { members: members.into(), users: users.into(), allow }
    }
}

impl Rule {
    /// Whether it lets this user make the call; `is_own` says of a warehouse whether it is the organisation's.
    pub fn permits(&self, call: &Call<'_>, user: &str, email: &str, is_own: impl Fn(&str) -> bool) -> Permission {
        if !self.is_for(user, email) {
            return Permission::Denied;
        }
        self.allow
            .iter()
            .map(|pattern| pattern.permits(call.method, call.path, &is_own))
            .max()
            .unwrap_or(Permission::Denied)
    }

    fn is_for(&self, user: &str, email: &str) -> bool {
        let everybody = self.members.is_empty() && self.users.is_empty();
        everybody
            || self.members.binary_search_by(|one| (**one).cmp(user)).is_ok()
            || self.users.binary_search_by(|one| (**one).cmp(email)).is_ok()
    }
}

/// What rules say of a call, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// It may not be made.
    Denied,
    /// It may be made, but not of a warehouse that is not the organisation's.
    Foreign,
    /// It may be made.
    Granted,
}

/// A method and a path, in which `*` stands for one segment, `{warehouse}` for one of the organisation's own warehouses,
/// and `**` at the end for whatever follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    method: Box<str>,
    segments: Box<[Segment]>,
    has_rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exactly(Box<str>),
    Any,
    Warehouse,
}

/// Methods that rules may name.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Why a text is not a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// No method, or one that is not known.
    #[error("{0:?} does not begin with a method; write one such as \"GET /api/2.0/sql/history/queries\"")]
    Method(String),
    /// Not a path of an API.
    #[error("the path of {0:?} does not begin with /api/ or /sql/")]
    Path(String),
    /// Not a path.
    #[error("the path of {0:?} does not begin with a slash")]
    Rootless(String),
    /// The same as `Segment`, where there are no warehouses.
    #[error("{0:?} has the segment {1:?}; write letters and digits, *, or ** as the last one")]
    OfEngine(String, String),
    /// A segment that no path of a request could have.
    #[error("{0:?} has the segment {1:?}; write letters and digits, *, {{warehouse}}, or ** as the last one")]
    Segment(String, String),
}

impl Pattern {
    /// Reads a pattern such as `POST /api/2.0/sql/warehouses/{warehouse}/start`.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (method, path) = Self::halves(text)?;
        if !is_api(path) {
            return Err(BadPattern::Path(text.into()));
        }
        Self::read(text, method, path, |segment| match segment {
            "{warehouse}" => Some(Segment::Warehouse),
            plain if is_plain(plain) => Some(Segment::Exactly(plain.into())),
            _ => None,
        })
    }

    /// Reads a pattern of an engine's list, whose path is anything below the engine's address and may end in a slash.
    pub(super) fn of_engine(text: &str) -> Result<Self, BadPattern> {
        let (method, path) = Self::halves(text)?;
        if !path.starts_with('/') {
            return Err(BadPattern::Rootless(text.into()));
        }
        // Behind ** there is nothing more to say.
        let shortened = path.strip_suffix('/').filter(|path| !path.ends_with("/**"));
        let (bare, ends_in_slash) = shortened.map_or((path, false), |path| (path, true));
        let exactly = |segment: &str| is_plain(segment).then(|| Segment::Exactly(segment.into()));
        let mut read = Self::read(text, method, bare, exactly).map_err(|error| match error {
            BadPattern::Segment(text, segment) => BadPattern::OfEngine(text, segment),
            other => other,
        })?;
        if ends_in_slash {
            read.segments = read.segments.into_iter().chain([Segment::Exactly("".into())]).collect();
        }
        Ok(read)
    }

    fn halves(text: &str) -> Result<(&str, &str), BadPattern> {
        let named = text.split_once(' ').filter(|(method, _)| METHODS.contains(method));
        named.ok_or_else(|| BadPattern::Method(text.into()))
    }

    fn read(text: &str, method: &str, path: &str, known: fn(&str) -> Option<Segment>) -> Result<Self, BadPattern> {
        let (path, has_rest) = path.strip_suffix("/**").map_or((path, false), |path| (path, true));
        let segment = |segment: &str| {
            let read = if segment == "*" { Some(Segment::Any) } else { known(segment) };
            read.ok_or_else(|| BadPattern::Segment(text.into(), segment.into()))
        };
        let segments = path.split('/').skip(1).map(segment).collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), method: method.into(), segments, has_rest })
    }

    fn of_action(action: Action) -> Self {
        let text = format!("POST /api/2.0/sql/warehouses/{{warehouse}}/{}", action.name());
        Self::parse(&text).expect("made of words that are segments")
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a method and a path are what it says, for a pattern without warehouses.
    pub(super) fn is_of(&self, method: &str, path: &str) -> bool {
        self.permits(method, path, |_| false) == Permission::Granted
    }

    fn permits(&self, method: &str, path: &str, is_own: impl Fn(&str) -> bool) -> Permission {
        let (mut permission, mut path) = (Permission::Granted, path.split('/').skip(1));
        for segment in &self.segments {
            match (segment, path.next()) {
                (Segment::Exactly(text), Some(here)) if **text == *here => {}
                (Segment::Any, Some(here)) if !here.is_empty() => {}
                (Segment::Warehouse, Some(here)) if is_own(here) => {}
                (Segment::Warehouse, Some(_)) => permission = Permission::Foreign,
                _ => return Permission::Denied,
            }
        }
        let is_all = path.next().is_some() == self.has_rest;
        if is_all && *self.method == *method { permission } else { Permission::Denied }
    }
}
