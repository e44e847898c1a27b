//! What the answer to a statement says of it: its id, its state and how many rows it has, read while the bytes pass by. No
//! more than the beginning is looked at, nothing is changed or kept back, and what is not understood is not known.

use crate::metrics::StatementState;

/// How much of an answer is looked at: the schema of a table with some hundred columns fits before the count of its rows.
const LOOK: usize = 64 * 1024;
/// The longest word that could matter.
const WORD: usize = 64;
/// Values within values that are told apart; what matters is in the second.
const MAX_DEPTH: u32 = 64;

/// Databricks' words for where a statement is.
const STATES: [(&[u8], StatementState); 6] = [
    (b"PENDING", StatementState::Pending),
    (b"RUNNING", StatementState::Running),
    (b"SUCCEEDED", StatementState::Succeeded),
    (b"FAILED", StatementState::Failed),
    (b"CANCELED", StatementState::Canceled),
    (b"CLOSED", StatementState::Closed),
];

/// What is known of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Known {
    /// Its id, of letters, digits and hyphens.
    pub(super) id: Option<Box<str>>,
    pub(super) state: Option<StatementState>,
    pub(super) rows: Option<u64>,
}

/// Looks at an answer piece by piece.
#[derive(Debug)]
pub(super) struct Peek {
    known: Known,
    /// How many bytes are still looked at.
    left: usize,
    depth: u32,
    /// Which of the open values are objects, the innermost in the lowest bit.
    objects: u64,
    /// The key of the outermost object that is being read, if it matters.
    outer: Outer,
    /// What the word that is being read would be.
    expects: Expects,
    text: Text,
    word: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outer {
    Id,
    Status,
    Manifest,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Key,
    Id,
    State,
    Rows,
    Nothing,
}

/// Where in a string it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

impl Default for Peek {
    fn default() -> Self {
        Self {
            known: Known::default(),
            left: LOOK,
            depth: 0,
            objects: 0,
            outer: Outer::Other,
            expects: Expects::Nothing,
            text: Text::Outside,
            word: Vec::new(),
        }
    }
}

impl Peek {
    /// What is known so far.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Whether nothing more is looked at.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Looks at the next piece of the answer.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.left)];
        self.left -= bytes.len();
        for byte in bytes {
            self.step(*byte);
        }
        let Known { id, state, rows } = &self.known;
        let has_all = id.is_some() && state.is_some() && rows.is_some();
        if has_all || self.depth == MAX_DEPTH {
            self.left = 0;
        }
    }

    fn step(&mut self, byte: u8) {
        match (self.text, byte) {
            (Text::Inside, b'"') => {
                self.text = Text::Outside;
                self.end_text();
            }
            (Text::Inside, b'\\') => {
                // Nothing that matters has one, so what has one does not matter.
                self.keep(byte);
                self.text = Text::Escaped;
            }
            (Text::Escaped, _) => self.text = Text::Inside,
            (Text::Inside, _) => self.keep(byte),
            (Text::Outside, _) => self.structure(byte),
        }
    }

    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.word.clear();
                self.text = Text::Inside;
            }
            b'{' | b'[' => {
                self.depth = (self.depth + 1).min(MAX_DEPTH);
                self.objects = self.objects << 1 | u64::from(byte == b'{');
                self.expects = if byte == b'{' { Expects::Key } else { Expects::Nothing };
            }
            b'}' | b']' | b',' => {
                self.end_number();
                if byte != b',' {
                    self.depth = self.depth.saturating_sub(1);
                    self.objects >>= 1;
                }
                let is_next_key = byte == b',' && self.objects & 1 == 1;
                self.expects = if is_next_key { Expects::Key } else { Expects::Nothing };
            }
            b':' => self.word.clear(),
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        // One byte too many tells that it is too long.
        if self.expects != Expects::Nothing && self.word.len() <= WORD && self.depth <= 2 {
            self.word.push(byte);
        }
    }

    fn end_text(&mut self) {
        match self.expects {
            Expects::Key => self.end_key(),
            Expects::Id => self.known.id = id(&self.word),
            Expects::State => self.known.state = state(&self.word),
            Expects::Rows | Expects::Nothing => {}
        }
        self.word.clear();
    }

    fn end_key(&mut self) {
        self.expects = Expects::Nothing;
        match (self.depth, &self.word[..]) {
            (1, b"statement_id") => (self.outer, self.expects) = (Outer::Id, Expects::Id),
            (1, b"status") => self.outer = Outer::Status,
            (1, b"manifest") => self.outer = Outer::Manifest,
            (1, _) => self.outer = Outer::Other,
            (2, b"state") if self.outer == Outer::Status => self.expects = Expects::State,
            (2, b"total_row_count") if self.outer == Outer::Manifest => self.expects = Expects::Rows,
            _ => {}
        }
    }

    fn end_number(&mut self) {
        if self.expects == Expects::Rows {
            self.known.rows = std::str::from_utf8(&self.word).ok().and_then(|word| word.trim().parse().ok());
        }
        self.word.clear();
    }
}

fn id(word: &[u8]) -> Option<Box<str>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let fits = (1..=WORD).contains(&word.len()) && word.iter().all(is_plain);
    std::str::from_utf8(word).ok().filter(|_| fits).map(Into::into)
}

fn state(word: &[u8]) -> Option<StatementState> {
    STATES.iter().find(|(name, _)| *name == word).map(|(_, state)| *state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of an answer, however it is cut into pieces.
    fn known(answer: &str) -> Known {
        let mut whole = Peek::default();
        whole.push(answer.as_bytes());
        let mut pieces = Peek::default();
        answer.as_bytes().chunks(1).for_each(|piece| pieces.push(piece));
        assert_eq!(whole.known(), pieces.known(), "{answer}");
        whole.known
    }

    fn of(id: &str, state: StatementState, rows: Option<u64>) -> Known {
        Known { id: Some(id.into()), state: Some(state), rows }
    }

    #[test]
    fn an_answer_tells_id_state_and_rows() {
        for (answer, expected) in [
            (r#"{"statement_id":"01ef-9","status":{"state":"PENDING"}}"#, of("01ef-9", StatementState::Pending, None)),
            (
                r#" { "status" : { "error":{"state":"CLOSED","message":"a \"state\":\"x\\"}, "state" : "FAILED" },
                   "statement_id" : "01ef" } "#,
                of("01ef", StatementState::Failed, None),
            ),
            (
                r#"{"statement_id":"1","manifest":{"schema":{"columns":[{"total_row_count":7}]},"total_row_count": 12 ,"x":[]},
                   "status":{"state":"SUCCEEDED"},"result":{"data_array":[["statement_id"],["{"]]}}"#,
                of("1", StatementState::Succeeded, Some(12)),
            ),
            (
                r#"{"manifest":{"total_row_count":3},"statement_id":"1","status":{"state":"RUNNING"}}"#,
                of("1", StatementState::Running, Some(3)),
            ),
        ] {
            assert_eq!(known(answer), expected, "{answer}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_known() {
        for answer in [
            "",
            "not JSON",
            r#"["statement_id","1"]"#,
            r#"{"a":{"statement_id":"1","status":{"state":"FAILED"}}}"#,
            r#"{"statement_id":"a b","status":{"state":"SLEEPING"}}"#,
            r#"{"statement_id":"a\u0062","status":"FAILED","state":"FAILED","x\nstatement_id":"1"}"#,
            r#"{"status":{"state":{"state":"FAILED"}},"manifest":{"total_row_count":-1}}"#,
            r#"{"manifest":{"total_row_count":"3"}}"#,
            r#"}}}}]]{"statement_id":7}"#,
        ] {
            assert_eq!(known(answer), Known::default(), "{answer}");
        }
        let long = format!(r#"{{"x":"{}","statement_id":"1"}}"#, "y".repeat(LOOK));
        assert_eq!(known(&long), Known::default());
    }

    #[test]
    fn no_more_is_looked_at_than_has_to_be() {
        let mut peek = Peek::default();
        peek.push(br#"{"statement_id":"1","status":{"state":"CLOSED"},"manifest":{"total_row_count":0}"#);
        assert!(peek.is_over());
        let mut deep = Peek::default();
        deep.push("[".repeat(1000).as_bytes());
        assert!(deep.is_over());
    }
}
