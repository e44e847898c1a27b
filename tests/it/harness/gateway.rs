//! A real gateway in this process, on real sockets. Many may run at once.

use super::raw::{Message, Wire};
use super::{PATIENCE, until};
use anyhow::{Context as _, Result, bail};
use embedgate::app::sockets::Sockets;
use embedgate::app::{self, Gateway as Running, Start};
use embedgate::clock::Clock;
use embedgate::config::{Config, Env};
use embedgate::directory::sync::FixedSource;
use embedgate::directory::{News, file};
use embedgate::log::Writer;
use embedgate::model::access::Bar;
use embedgate::model::snapshot::Snapshot;
use embedgate::plane::Plane;
use embedgate::session::seal::Purpose;
use embedgate::session::{Parts, Session};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Apps are at `{app}--{org}.apps.localhost`, everything else at `localhost`.
pub(crate) const BASE_DOMAIN: &str = "apps.localhost";

/// The variable that holds the session key.
const KEY: &str = "TEST_SESSION_KEY";

/// One worker, so that a connection to an upstream is found again by whoever comes next. The limits on time are longer
/// than any test, so that nothing ends by one that a test does not set.
const CONFIG: &str = r#"
    [server]
    listen = "127.0.0.1:0"
    public_url = "http://localhost"
    workers = 1
    drain_timeout = "10m"
    drain_spread = "0s"
    [admin]
    listen = "127.0.0.1:0"
    [session]
    keys = [{ id = "test", env = "TEST_SESSION_KEY" }]
    [routing]
    base_domain = "apps.localhost"
    [upstreams]
    allowed_domains = ["127.0.0.1"]
    allow_private_addresses = true
    pool_idle_timeout = "10m"
    [limits]
    header_timeout = "10m"
    keep_alive_timeout = "10m"
    body_idle_timeout = "10m"
    [log]
    format = "json"
"#;

/// A gateway before it runs.
pub(crate) struct Builder {
    env: Env,
    directory: String,
}

impl Builder {
    /// A gateway with a configuration for tests and this directory.
    pub(crate) fn new(directory: impl Into<String>) -> Self {
        let env = Env::from([(KEY.to_owned(), "5e".repeat(32))]);
        Self { env, directory: directory.into() }
    }

    /// Sets a key of the configuration, such as `limits.body_bytes`, to a TOML value.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("EMBEDGATE__{}", key.to_uppercase().replace('.', "__"));
        self.env.insert(name, value.to_owned());
        self
    }

    /// Sets an environment variable that the configuration names.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> Result<Gateway> {
        let (log, clock) = (Captured::default(), Clock::default());
        let writer = Writer::start(log.clone())?;
        let nowhere = Path::new("test");
        let config = Config::parse(CONFIG, nowhere, &self.env).context("the configuration")?;
        let allowed = &config.upstreams.allowed;
        let keys = app::load_keys(&config, &self.env)?;
        let tables =
            file::parse(&self.directory, nowhere, allowed, &self.env, keys.vault()).context("the directory")?;
        let (source, sink) = (FixedSource(tables), writer.sink());
        let start =
            Start { config, env: self.env, source, keys, log: sink, clock: clock.clone(), sockets: Sockets::None };
        // It brings runtimes of its own, which cannot begin inside of another.
        let running = spawn_blocking(|| start.run()).await?.context("the gateway does not start")?;
        let (address, admin) = (running.address(), running.admin_address());
        let plane = Arc::clone(running.plane());
        Ok(Gateway { running: Some((running, writer)), plane, address, admin, clock, log })
    }
}

/// A running gateway. Dropping it ends it.
pub(crate) struct Gateway {
    running: Option<(Running, Writer)>,
    plane: Arc<Plane>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The gateway's wall clock.
    pub(crate) clock: Clock,
    log: Captured,
}

impl Gateway {
    /// A connection to the data listener.
    pub(crate) async fn connect(&self) -> Result<Wire> {
        Wire::connect(self.address).await
    }

    /// A session token, sealed with the gateway's key, that ends in `ttl` seconds of the gateway's clock.
    pub(crate) fn token(&self, org: &str, user: &str, email: &str, app: Option<&str>, ttl: u64) -> Result<String> {
        let mut id = [0u8; 16];
        getrandom::fill(&mut id)?;
        let issued = self.clock.now();
        self.seal(&Session::new(Parts { id, issued, expires: issued + ttl, org, user, email, app })?)
    }

    /// A token of this session, sealed with the gateway's key.
    pub(crate) fn seal(&self, session: &Session) -> Result<String> {
        self.plane.keys.ring().seal(Purpose::Session, session)?.context("no key to seal with")
    }

    /// The session in a token of the gateway's, whether it has ended or not.
    pub(crate) fn unseal(&self, token: &str) -> Result<Session> {
        Ok(self.plane.keys.ring().unseal(Purpose::Session, token.as_bytes())?)
    }

    /// A session of an ordinary user for an hour.
    pub(crate) fn session(&self, org: &str) -> Result<String> {
        self.token(org, "ann", &format!("ann@{org}.example"), None, 3600)
    }

    /// Puts another directory in place, as a source does.
    pub(crate) fn publish(&self, directory: &str) -> Result<()> {
        let (nowhere, keys) = (Path::new("test"), &self.plane.keys);
        let tables = file::parse(directory, nowhere, &self.plane.settings.allowed, &Env::new(), keys.vault())?;
        let snapshot = Snapshot::build(tables, self.plane.directory.snapshot().as_deref());
        self.plane.directory.publish(snapshot, News::All);
        Ok(())
    }

    /// Shuts somebody out, as the directory does.
    pub(crate) fn put_up(&self, bar: Bar) -> Result<()> {
        let now = self.clock.now();
        Ok(self.plane.directory.put_up(bar, now, now + 3600)?)
    }

    /// An answer of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Result<Message> {
        let mut wire = Wire::connect(self.admin).await?;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
        wire.answer().await
    }

    /// The value of a metric, labels included in its name.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.admin("/metrics").await?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(Ok(0.0), |value| Ok(value.parse()?))
    }

    /// Waits until a metric has this value.
    pub(crate) async fn expect_metric(&self, name: &str, expected: f64) -> Result<()> {
        let mut last = f64::NAN;
        let reached = until(PATIENCE, async || {
            last = self.metric(name).await?;
            Ok(((last - expected).abs() < 0.5).then_some(()))
        });
        match reached.await? {
            Some(()) => Ok(()),
            None => bail!("{name} is {last} and not {expected}"),
        }
    }

    /// Waits for an access line in which `pick` finds what it looks for.
    pub(crate) async fn log_line(&self, pick: impl Fn(&str) -> bool) -> Result<String> {
        let found = until(PATIENCE, async || {
            let text = self.log();
            Ok(text.lines().find(|line| pick(line)).map(str::to_owned))
        });
        found.await?.with_context(|| format!("no such line in the log:\n{}", self.log()))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Makes the gateway leave, as SIGTERM does.
    pub(crate) fn leave(&mut self) -> Result<Leaving> {
        let (running, writer) = self.running.take().context("it has left already")?;
        let (done, ended) = oneshot::channel();
        std::thread::spawn(move || {
            running.leave();
            drop(writer);
            // A test that failed meanwhile does not wait any more.
            let _ = done.send(());
        });
        Ok(Leaving(ended))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.running.take();
        // Its runtimes cannot end inside of another.
        std::thread::spawn(move || drop(running));
    }
}

/// A gateway on its way out.
pub(crate) struct Leaving(oneshot::Receiver<()>);

impl Leaving {
    /// Waits for the end.
    pub(crate) async fn ended(self) -> Result<()> {
        Ok(timeout(PATIENCE, self.0).await.context("the gateway does not end")??)
    }

    /// Whether it is over.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_recv().is_ok()
    }
}

/// What was written to the log.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An organisation for the directory: its apps, a warehouse `wh1` in a workspace at the first app's address, and a
/// principal with the bearer `{id}-bearer`.
pub(crate) fn org(id: &str, apps: &[(&str, SocketAddr)]) -> String {
    org_with(id, apps, &format!("kind = \"bearer\"\ntoken = \"{id}-bearer\""))
}

/// The same with another principal.
pub(crate) fn org_with(id: &str, apps: &[(&str, SocketAddr)], principal: &str) -> String {
    let workspace = apps.first().map_or("127.0.0.1:1".to_owned(), |(_, address)| address.to_string());
    let mut text = format!(
        "[[org]]\nid = \"{id}\"\n[[org.workspace]]\nid = \"main\"\nurl = \"http://{workspace}\"\n\
         [[org.warehouse]]\nid = \"wh1\"\n[[org.principal]]\nid = \"spn\"\n{principal}\n"
    );
    for (app, address) in apps {
        // Writing to a string cannot fail.
        let _ = write!(text, "[[org.app]]\nid = \"{app}\"\nurl = \"http://{address}\"\n");
    }
    text
}

/// Waits so much longer than a limit that whatever it ends must have ended.
pub(crate) async fn outlast(limit: Duration) {
    tokio::time::sleep(limit * 2).await;
}
