//! Loads that others ask for, beside those that the source tells of.

use crate::model::ids::OrgId;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};

/// How others ask for a load, beside what the source tells.
#[derive(Clone)]
pub struct Asker {
    all: Arc<Notify>,
    orgs: mpsc::Sender<Asked>,
}

/// An organisation that is to be read, and who waits for that.
pub(in crate::directory) struct Asked(pub(in crate::directory) OrgId, pub(in crate::directory) oneshot::Sender<()>);

/// The other end of an [`Asker`].
pub struct Wishes {
    pub(super) all: Arc<Notify>,
    pub(in crate::directory) orgs: mpsc::Receiver<Asked>,
}

/// Organisations that wait to be read because somebody asked; more are not.
const MAX_ASKED: usize = 64;

/// Somebody who may ask, and what he asks.
#[must_use]
pub fn asker() -> (Asker, Wishes) {
    let (orgs, asked) = mpsc::channel(MAX_ASKED);
    let all = Arc::<Notify>::default();
    (Asker { all: Arc::clone(&all), orgs }, Wishes { all, orgs: asked })
}

impl Asker {
    /// Everything is to be read now.
    pub fn all(&self) {
        self.all.notify_one();
    }

    /// This organisation is to be read now; waits until that is done or cannot be.
    pub async fn org(&self, id: OrgId) {
        let (done, is_done) = oneshot::channel();
        if self.orgs.try_send(Asked(id, done)).is_ok() {
            // An error says that it is over as well.
            let _ = is_done.await;
        }
    }
}
