//! The stub SQL warehouse, as the Statement Execution API and the Warehouses API show it. It understands four
//! statements and is done with each at once.

use super::{
    Org, State, WAREHOUSE_ID, random_name,
    server::{Reply, api_error, json_reply, read_body},
};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The largest statement request that is read.
const BODY_LIMIT: usize = 1024 * 1024;
/// How many statements are remembered; beyond that the oldest are forgotten.
const STATEMENT_LIMIT: usize = 1_000;
/// How much of a statement an error message repeats, in characters.
const QUOTED: usize = 60;

/// Answers an API request of the organisation `org`, or nothing where there is no such endpoint.
pub(super) async fn answer(state: &State, org: usize, request: Request<Incoming>) -> Option<Reply> {
    let path = request.uri().path().to_owned();
    let rest: Vec<&str> = path.strip_prefix("/api/2.0/sql/")?.split('/').collect();
    let post = request.method() == Method::POST;
    if !post && request.method() != Method::GET {
        return None;
    }
    Some(match (rest.as_slice(), post) {
        (["statements"], true) => submit(state, org, request).await,
        (["statements", id], false) => json_or_missing(state.statements().find(org, id).map(Statement::whole), id),
        (["statements", id, "result", "chunks", chunk], false) => {
            // All results are small, so there is one chunk.
            let result = if *chunk == "0" { state.statements().find(org, id).and_then(Statement::chunk) } else { None };
            json_or_missing(result, id)
        }
        // Whatever is known here has ended, so there is nothing to cancel, which is no error.
        (["statements", id, "cancel"], true) => {
            json_or_missing(state.statements().find(org, id).map(|_| json!({})), id)
        }
        (["warehouses"], false) => json_reply(StatusCode::OK, &json!({ "warehouses": [warehouse(&state.orgs[org])] })),
        (["warehouses", id], false) => json_or_missing((*id == WAREHOUSE_ID).then(|| warehouse(&state.orgs[org])), id),
        _ => return None,
    })
}

/// What was found, or the answer to an id which is unknown or another organisation's; nobody can tell which.
fn json_or_missing(found: Option<Value>, id: &str) -> Reply {
    match found {
        Some(value) => json_reply(StatusCode::OK, &value),
        None => api_error(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST", &format!("{} does not exist.", quote(id))),
    }
}

/// The one warehouse of an organisation.
fn warehouse(org: &Org) -> Value {
    json!({
        "id": WAREHOUSE_ID,
        "name": format!("{} warehouse", org.given.name),
        "state": "RUNNING",
        "health": { "status": "HEALTHY" },
        "warehouse_type": "PRO",
        "cluster_size": "2X-Small",
        "enable_serverless_compute": true,
        "num_clusters": 1,
        "min_num_clusters": 1,
        "max_num_clusters": 1,
        "auto_stop_mins": 10,
        "creator_name": org.given.client_id,
    })
}

/// `POST /api/2.0/sql/statements`.
async fn submit(state: &State, org: usize, request: Request<Incoming>) -> Reply {
    let body = match read_body(request.into_body(), BODY_LIMIT).await {
        Ok(body) => body,
        Err(status) => return api_error(status, "BAD_REQUEST", "The request's body could not be read."),
    };
    let Ok(Value::Object(body)) = serde_json::from_slice(&body) else {
        return api_error(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", "The body is no JSON object.");
    };
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let Some(statement) = text("statement") else { return invalid("statement must be given, as a string.") };
    if text("warehouse_id").is_none() {
        return invalid("warehouse_id must be given, as a string.");
    }
    if text("warehouse_id") != Some(WAREHOUSE_ID) {
        return json_or_missing(None, text("warehouse_id").unwrap_or_default());
    }
    if text("disposition").is_some_and(|way| way != "INLINE") || text("format").is_some_and(|way| way != "JSON_ARRAY") {
        return invalid("This warehouse offers the disposition INLINE with the format JSON_ARRAY only.");
    }
    let Ok(id) = random_name("") else {
        return api_error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "No random numbers to be had.");
    };
    let statement = Statement { id, org, outcome: run(&state.orgs[org], statement) };
    // Who does not wait is told to ask again, so that the later paths are tried as well.
    let answer = if text("wait_timeout") == Some("0s") { statement.pending() } else { statement.whole() };
    state.statements().add(statement);
    json_reply(StatusCode::OK, &answer)
}

fn invalid(message: &str) -> Reply {
    api_error(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE", message)
}

/// A result: names and types of the columns, and the rows. As in the original every value travels as text.
#[derive(Debug)]
struct Table {
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<Vec<String>>,
}

/// Runs a statement; the error is the message to show.
fn run(org: &Org, statement: &str) -> Result<Table, String> {
    let words: Vec<String> = statement.trim().trim_end_matches(';').split_whitespace().map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["select", "1"] => Ok(Table { columns: vec![("1", "INT")], rows: vec![vec!["1".to_owned()]] }),
        ["select", "current_user()"] => {
            Ok(Table { columns: vec![("current_user()", "STRING")], rows: vec![vec![org.given.client_id.clone()]] })
        }
        ["show", "tables"] => Ok(Table {
            columns: vec![("database", "STRING"), ("tableName", "STRING"), ("isTemporary", "BOOLEAN")],
            rows: vec![["demo", "sales", "false"].map(str::to_owned).to_vec()],
        }),
        ["select", "*", "from", table, limit @ ..] => {
            if !matches!(*table, "sales" | "demo.sales") {
                let table = quote(table);
                return Err(format!("[TABLE_OR_VIEW_NOT_FOUND] The table or view {table} cannot be found."));
            }
            match limit {
                [] => Ok(sales(org, usize::MAX)),
                ["limit", count] => count.parse().map(|count| sales(org, count)).map_err(|_| syntax_error(count)),
                [word, ..] => Err(syntax_error(word)),
            }
        }
        _ => Err(syntax_error(statement.trim())),
    }
}

fn sales(org: &Org, limit: usize) -> Table {
    let rows = org.sales.rows().iter().take(limit);
    Table {
        columns: vec![("month", "STRING"), ("region", "STRING"), ("orders", "BIGINT"), ("revenue", "BIGINT")],
        rows: rows
            .map(|row| vec![row.month.clone(), row.region.to_owned(), row.orders.to_string(), row.revenue.to_string()])
            .collect(),
    }
}

fn syntax_error(near: &str) -> String {
    format!(
        "[PARSE_SYNTAX_ERROR] Syntax error at or near {}. The demo understands SELECT 1, SELECT current_user(), \
         SHOW TABLES and SELECT * FROM sales [LIMIT n].",
        quote(near)
    )
}

/// The beginning of a text that a client sent, for a message.
fn quote(text: &str) -> String {
    let start: String = text.chars().take(QUOTED).collect();
    format!("'{start}{}'", if start.len() < text.len() { ".." } else { "" })
}

/// A statement that was run.
#[derive(Debug)]
pub(super) struct Statement {
    id: String,
    org: usize,
    outcome: Result<Table, String>,
}

impl Statement {
    /// The answer to who did not wait.
    fn pending(&self) -> Value {
        json!({ "statement_id": self.id, "status": { "state": "PENDING" } })
    }

    /// Status and, if it succeeded, manifest and result.
    fn whole(&self) -> Value {
        let table = match &self.outcome {
            Ok(table) => table,
            Err(message) => {
                let error = json!({ "error_code": "BAD_REQUEST", "message": message });
                return json!({ "statement_id": self.id, "status": { "state": "FAILED", "error": error } });
            }
        };
        let column = |(position, (name, kind)): (usize, &(&str, &str))| json!({ "name": name, "position": position, "type_name": type_name(kind), "type_text": kind });
        let rows = table.rows.len();
        json!({
            "statement_id": self.id,
            "status": { "state": "SUCCEEDED" },
            "manifest": {
                "format": "JSON_ARRAY",
                "schema": {
                    "column_count": table.columns.len(),
                    "columns": table.columns.iter().enumerate().map(column).collect::<Vec<_>>(),
                },
                "total_chunk_count": 1,
                "chunks": [{ "chunk_index": 0, "row_offset": 0, "row_count": rows }],
                "total_row_count": rows,
                "truncated": false,
            },
            "result": self.chunk(),
        })
    }

    /// The only chunk of the result, which a failed statement does not have.
    fn chunk(&self) -> Option<Value> {
        let rows = &self.outcome.as_ref().ok()?.rows;
        Some(json!({ "chunk_index": 0, "row_offset": 0, "row_count": rows.len(), "data_array": rows }))
    }
}

/// The API's name of a type, where SQL has another.
fn type_name(kind: &str) -> &str {
    if kind == "BIGINT" { "LONG" } else { kind }
}

/// The statements that were run last.
#[derive(Debug, Default)]
pub(super) struct Statements(VecDeque<Statement>);

impl Statements {
    fn add(&mut self, statement: Statement) {
        while self.0.len() >= STATEMENT_LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(statement);
    }

    /// A statement of this organisation. The youngest come first, as they are the ones asked for.
    fn find(&self, org: usize, id: &str) -> Option<&Statement> {
        self.0.iter().rev().find(|statement| statement.org == org && statement.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::{DemoOrg, sales::Sales, time::Date},
        secret::Secret,
    };

    fn acme() -> Org {
        let given = DemoOrg {
            id: "acme".to_owned(),
            name: "Acme".to_owned(),
            client_id: "acme-spn".to_owned(),
            client_secret: Secret::new("s".to_owned()),
            accent: "#0f766e".to_owned(),
        };
        Org { sales: Sales::of("acme", Date { year: 2026, month: 1, day: 1 }), given }
    }

    #[test]
    fn the_statements_it_knows() {
        let run = |statement| run(&acme(), statement);
        assert_eq!(run(" select\n1 ;").expect("known").rows, [["1"]]);
        assert_eq!(run("SELECT current_user()").expect("known").rows, [["acme-spn"]]);
        assert_eq!(run("SHOW TABLES").expect("known").rows[0][1], "sales");
        assert_eq!(run("SELECT * FROM sales").expect("known").rows.len(), 36);
        assert_eq!(run("SELECT * FROM demo.sales LIMIT 2").expect("known").rows.len(), 2);
    }

    #[test]
    fn the_statements_it_refuses() {
        let refusal = |statement: &str| run(&acme(), statement).expect_err("refused");
        assert!(refusal("SELECT * FROM payroll").contains("TABLE_OR_VIEW_NOT_FOUND"));
        assert!(refusal("SELECT * FROM sales LIMIT -1").contains("'-1'"));
        assert!(refusal("SELECT * FROM sales WHERE 1=1").contains("'where'"));
        assert!(refusal("").contains("PARSE_SYNTAX_ERROR"));
        assert!(refusal(&"ä".repeat(100_000)).len() < 400);
    }

    #[test]
    fn old_statements_are_forgotten_and_foreign_ones_unknown() {
        let mut statements = Statements::default();
        for number in 0..=STATEMENT_LIMIT {
            statements.add(Statement { id: number.to_string(), org: number % 2, outcome: Err(String::new()) });
        }
        assert!(statements.find(0, "0").is_none());
        assert!(statements.find(1, "1").is_some());
        assert!(statements.find(0, "1").is_none());
    }
}
