//! The admin listener, put together.

use super::StartError;
use crate::admin::{Admin, Door};
use crate::config::{Config, Env};
use crate::directory::postgres::Writer;
use crate::plane::Plane;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Binds and serves; gives the address.
pub(super) async fn start(
    config: &Config,
    env: Env,
    plane: &Arc<Plane>,
    teller: Option<Arc<Writer>>,
) -> Result<SocketAddr, StartError> {
    let address = config.admin.listen;
    let failed = |cause| StartError::Listen { address, key: "admin.listen", cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr()?;
    let door = Door::new(bound, config.admin.token.clone(), env).map_err(StartError::AdminToken)?;
    let admin = Admin { exporter: plane.metrics.exporter(), plane: Arc::clone(plane), teller, door: Arc::new(door) };
    tokio::spawn(admin.serve(listener));
    Ok(bound)
}
