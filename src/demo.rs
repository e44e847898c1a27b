//! What `embedgate demo` puts behind the gateway: a stub workspace, which issues tokens and runs SQL, and a small data
//! app, which shows who the gateway says is there. Both listen on loopback and keep everything in memory.
//!
//! Every table is bounded: the demo may run for days, and tests throw load at it.

mod app;
mod sales;
mod server;
mod time;
mod warehouse;
mod workspace;

use crate::secret::Secret;
use sales::Sales;
use server::Alive;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use warehouse::Statements;
use workspace::Tokens;

/// The id of the one SQL warehouse that every organisation has.
pub const WAREHOUSE_ID: &str = "demo-warehouse";
/// How long the workspace's tokens live unless told otherwise; Databricks' own last as long.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// No token lives longer, so that its end is a time the clock can express.
const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// One organisation of the demo, with the service principal that acts for it.
#[derive(Debug, Clone)]
pub struct DemoOrg {
    /// The organisation's id, as the gateway's directory has it.
    pub id: String,
    /// The name people read.
    pub name: String,
    /// The service principal's client id; no two organisations may share one.
    pub client_id: String,
    /// The service principal's secret.
    pub client_secret: Secret,
    /// The colour of its dashboard, as CSS writes it: `#0f766e`.
    pub accent: String,
}

/// The running stub servers. Dropping it ends them.
#[derive(Debug)]
pub struct Demo {
    /// Where the data app listens.
    pub app: SocketAddr,
    /// Where the workspace listens: token endpoint and SQL.
    pub workspace: SocketAddr,
    state: Arc<State>,
    switch: watch::Sender<bool>,
}

/// Starts the stub servers on free loopback ports. Call it within a tokio runtime with time and I/O; the servers live
/// as tasks of that runtime.
pub async fn start(orgs: &[DemoOrg]) -> io::Result<Demo> {
    start_with_token_life(orgs, TOKEN_LIFE).await
}

/// The same with tokens that live for `token_life`; of zero length they are born expired.
pub async fn start_with_token_life(orgs: &[DemoOrg], token_life: Duration) -> io::Result<Demo> {
    let state = Arc::new(State::new(orgs, token_life)?);
    let (switch, alive) = Alive::new();
    let workspace = server::listen(workspace::Workspace::new(Arc::clone(&state)), alive.clone()).await?;
    let app = server::listen(app::App::new(Arc::clone(&state), alive.clone()), alive).await?;
    Ok(Demo { app, workspace, state, switch })
}

impl Demo {
    /// The base URL of the data app.
    #[must_use]
    pub fn app_url(&self) -> String {
        format!("http://{}", self.app)
    }

    /// The base URL of the workspace.
    #[must_use]
    pub fn workspace_url(&self) -> String {
        format!("http://{}", self.workspace)
    }

    /// How many tokens were issued to a client id so far.
    #[must_use]
    pub fn mints(&self, client_id: &str) -> u64 {
        self.state.index_of(client_id).map_or(0, |org| self.state.tokens().mints(org))
    }

    /// Forgets every token issued so far, as if all had expired: the next use of one is answered 401.
    pub fn revoke_tokens(&self) {
        self.state.tokens().clear();
    }

    /// Ends the servers and waits until they, their connections and the upgraded ones are gone.
    pub async fn stop(self) {
        // Nobody listening any more is what we want, so that is no error.
        let _ = self.switch.send(true);
        self.switch.closed().await;
    }
}

/// What both servers share.
#[derive(Debug)]
struct State {
    orgs: Vec<Org>,
    by_client: HashMap<String, usize>,
    token_life: Duration,
    tokens: Mutex<Tokens>,
    statements: Mutex<Statements>,
}

/// An organisation and its data. Elsewhere it is named by its index, which stays the same for the life of the demo.
#[derive(Debug)]
struct Org {
    given: DemoOrg,
    sales: Sales,
}

impl State {
    fn new(orgs: &[DemoOrg], token_life: Duration) -> io::Result<Self> {
        let mut by_client = HashMap::new();
        for (index, org) in orgs.iter().enumerate() {
            // Two organisations behind one principal would see each other's statements.
            if by_client.insert(org.client_id.clone(), index).is_some() {
                let text = format!("two demo organisations share the client id {}", org.client_id);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let today = time::Date::today();
        let with_sales = |org: &DemoOrg| Org { given: org.clone(), sales: Sales::of(&org.id, today) };
        Ok(Self {
            orgs: orgs.iter().map(with_sales).collect(),
            by_client,
            token_life: token_life.min(LONGEST_TOKEN_LIFE),
            tokens: Mutex::new(Tokens::new(orgs.len())),
            statements: Mutex::default(),
        })
    }

    fn index_of(&self, client_id: &str) -> Option<usize> {
        self.by_client.get(client_id).copied()
    }

    /// The organisation whose principal the request's bearer belongs to.
    fn caller(&self, headers: &http::HeaderMap) -> Option<usize> {
        let token = server::credentials(headers, "Bearer")?;
        self.tokens().owner(token, std::time::Instant::now())
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    fn statements(&self) -> MutexGuard<'_, Statements> {
        lock(&self.statements)
    }
}

/// Locks a table. A panic elsewhere leaves it usable: each change to it is complete in itself.
fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A random name of 32 hex digits behind `prefix`.
fn random_name(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{prefix}{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests;
