//! `embedgate demo`: everything on this machine, nothing to configure.

use super::{key, local, print};
use crate::demo::{self, DemoOrg, WAREHOUSE_ID};
use crate::secret::Secret;
use anyhow::{Context, Result};
use clap::Args;
use std::fmt::Write;
use std::net::SocketAddr;

const APP: &str = "studio";

/// Show what it does.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the gateway listens; port 0 takes any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// A user of the demo.
struct Visitor {
    org: &'static str,
    name: &'static str,
    user: &'static str,
    email: &'static str,
    accent: &'static str,
}

const VISITORS: [Visitor; 2] = [
    Visitor { org: "acme", name: "Acme Robotics", user: "u-ada", email: "ada@acme.example", accent: "#4f46e5" },
    Visitor { org: "globex", name: "Globex Foods", user: "u-grace", email: "grace@globex.example", accent: "#0f766e" },
];

impl Demo {
    pub(super) fn run(&self) -> Result<()> {
        let listeners = local::bind(self.listen)?;
        let orgs = VISITORS.iter().map(org).collect::<Result<Vec<_>>>()?;
        let behind = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stubs = behind.block_on(demo::start(&orgs)).context("cannot start the sample app")?;
        let directory = directory(&orgs, &stubs);
        let gateway = local::Local::start(listeners, &directory, &["127.0.0.1"])?;
        print("embedgate demo: a sample app and a SQL warehouse, with the gateway in front\n")?;
        for visitor in &VISITORS {
            let token = gateway.token(visitor.org, visitor.user, visitor.email)?;
            print(format_args!("{} as {}", visitor.name, visitor.email))?;
            print(format_args!("  open    {}", gateway.link(visitor.org, APP, &token)))?;
            print(format_args!("  sql     {}\n", sql(&gateway.public_url(), &token)))?;
        }
        print(format_args!("  admin   http://{}/metrics", gateway.gateway.admin_address()))?;
        print("\nEach link opens the app as that user; the app never sees the session. Ctrl-C ends it.")?;
        gateway.run();
        behind.shutdown_background();
        Ok(())
    }
}

fn org(visitor: &Visitor) -> Result<DemoOrg> {
    Ok(DemoOrg {
        id: visitor.org.to_owned(),
        name: visitor.name.to_owned(),
        client_id: format!("{}-spn", visitor.org),
        client_secret: Secret::new(key::generate()?),
        accent: visitor.accent.to_owned(),
    })
}

fn directory(orgs: &[DemoOrg], stubs: &demo::Demo) -> String {
    let mut text = String::new();
    for DemoOrg { id, name, client_id, client_secret, .. } in orgs {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"
            [[org]]
            id = "{id}"
            name = "{name}"
            [[org.workspace]]
            id = "main"
            url = "{workspace}"
            [[org.principal]]
            id = "{client_id}"
            kind = "databricks"
            client_id = "{client_id}"
            client_secret = "{secret}"
            [[org.app]]
            id = "{APP}"
            url = "{app}"
            [[org.warehouse]]
            id = "{WAREHOUSE_ID}"
            "#,
            workspace = stubs.workspace_url(),
            app = stubs.app_url(),
            secret = client_secret.expose(),
        );
    }
    text
}

fn sql(public_url: &str, token: &str) -> String {
    let body = format!(r#"{{"warehouse_id":"{WAREHOUSE_ID}","statement":"SELECT * FROM sales LIMIT 3"}}"#);
    format!(
        "curl -s {public_url}/api/2.0/sql/statements -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{body}'"
    )
}
