//! The admin listener, put together.

use super::StartError;
use crate::admin::{Admin, Door};
use crate::config::{Config, Env};
use crate::directory::postgres::Writer;
use crate::plane::Plane;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Serves on the socket; gives its address and what serves there.
pub(super) fn start(
    config: &Config,
    env: Env,
    socket: TcpListener,
    plane: &Arc<Plane>,
    teller: Option<Arc<Writer>>,
    control: &Handle,
) -> Result<(SocketAddr, JoinHandle<()>), StartError> {
    let _inside = control.enter();
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let bound = listener.local_addr()?;
    let door = Door::new(bound, config.admin.token.clone(), env).map_err(StartError::AdminToken)?;
    let admin = Admin { plane: Arc::clone(plane), teller, door: Arc::new(door) };
    Ok((bound, tokio::spawn(admin.serve(listener))))
}
