//! `embedgate dev`: the gateway before an app that runs on this machine.

use super::{Wrong, local, print};
use crate::model::url::BaseUrl;
use anyhow::Result;
use clap::Args;
use std::net::SocketAddr;

const ORG: &str = "dev";
const APP: &str = "app";
const USER: &str = "developer";

/// Put the gateway before an app that runs on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: streamlit run app.py --server.headless true, then embedgate dev --upstream http://127.0.0.1:8501"
)]
pub(super) struct Dev {
    /// Where the app is, such as <http://127.0.0.1:8501>
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Where the gateway listens; port 0 takes any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The e-mail address the app is told
    #[arg(long, default_value = "developer@example.com")]
    email: String,
}

impl Dev {
    pub(super) fn run(&self) -> Result<()> {
        let url = BaseUrl::parse(&self.upstream).map_err(|error| Wrong(format!("--upstream: {error}")))?;
        let directory = format!(
            r#"
            [[org]]
            id = "{ORG}"
            [[org.workspace]]
            id = "local"
            url = "{url}"
            [[org.principal]]
            id = "nobody"
            kind = "none"
            [[org.app]]
            id = "{APP}"
            url = "{url}"
            "#
        );
        let gateway = local::Local::start(local::bind(self.listen)?, &directory, &[url.host()])?;
        let token = gateway.token(ORG, USER, &self.email)?;
        print(format_args!("embedgate is in front of {url}\n"))?;
        print(format_args!("  open    {}", gateway.link(ORG, APP, &token)))?;
        print(format_args!(
            "  curl    curl -s {}/app-proxy/{APP}/ -H 'Authorization: Bearer {token}'",
            gateway.public_url()
        ))?;
        print(format_args!("  admin   http://{}/metrics", gateway.gateway.admin_address()))?;
        print(format_args!(
            "\nThe app is told that you are {USER} <{}> of organisation {ORG}. Ctrl-C ends it.",
            self.email
        ))?;
        gateway.run();
        Ok(())
    }
}
