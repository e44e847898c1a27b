//! The key ring in use. Files are read again while running, so that keys rotate without a restart.

use super::seal::{KeyError, KeyRing, parse_key};
use crate::config::{Env, KeyRef, KeySource};
use crate::vault::Vault;
use arc_swap::{ArcSwap, Guard};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

/// A key that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("session key {id:?}: {cause}")]
pub struct KeyLoadError {
    /// The key's id in the configuration.
    pub id: String,
    /// What is wrong.
    pub cause: KeyLoadCause,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadCause {
    /// Its file cannot be read.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Its variable is not set.
    #[error("the environment variable {0} is not set")]
    Env(String),
    /// Its text is no key.
    #[error("{0}")]
    Key(#[from] KeyError),
}

/// Reads one key.
///
/// # Errors
/// [`KeyLoadCause`] says what is wrong; never the key itself.
pub fn read(source: &KeySource, env: &Env) -> Result<[u8; 32], KeyLoadCause> {
    let text = match source {
        KeySource::File(path) => {
            fs::read_to_string(path).map_err(|cause| KeyLoadCause::File { path: path.clone(), cause })?
        }
        KeySource::Env(name) => env.get(name).cloned().ok_or_else(|| KeyLoadCause::Env(name.clone()))?,
    };
    Ok(parse_key(&text)?)
}

/// The keys of the configuration and the ring made of them.
pub struct Keys {
    refs: Vec<KeyRef>,
    env: Env,
    ring: ArcSwap<KeyRing>,
    vault: Arc<Vault>,
    loaded: Mutex<Vec<[u8; 32]>>,
}

impl Keys {
    /// Reads all keys.
    ///
    /// # Errors
    /// Every key that cannot be had.
    pub fn load(refs: &[KeyRef], env: &Env) -> Result<Self, Vec<KeyLoadError>> {
        let keys = read_all(refs, env)?;
        let ring = ArcSwap::from_pointee(ring(refs, &keys));
        let vault = Arc::new(Vault::new(named(refs, &keys)));
        Ok(Self { refs: refs.to_vec(), env: env.clone(), ring, vault, loaded: Mutex::new(keys) })
    }

    /// The ring now.
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// The same keys for the secrets of the directory; follows every reload.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Reads the keys again and uses them if they changed; says whether they did. On an error the old ring stays.
    ///
    /// # Errors
    /// Every key that cannot be had.
    pub fn reload(&self) -> Result<bool, Vec<KeyLoadError>> {
        let keys = read_all(&self.refs, &self.env)?;
        // A poisoned lock only means that another reload panicked; the list it guards is replaced whole.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if *loaded == keys {
            return Ok(false);
        }
        self.ring.store(Arc::new(ring(&self.refs, &keys)));
        self.vault.replace(named(&self.refs, &keys));
        *loaded = keys;
        Ok(true)
    }
}

fn ring(refs: &[KeyRef], keys: &[[u8; 32]]) -> KeyRing {
    KeyRing::new(named(refs, keys))
}

fn named(refs: &[KeyRef], keys: &[[u8; 32]]) -> impl Iterator<Item = (String, [u8; 32])> {
    refs.iter().map(|r| r.id.clone()).zip(keys.iter().copied())
}

fn read_all(refs: &[KeyRef], env: &Env) -> Result<Vec<[u8; 32]>, Vec<KeyLoadError>> {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for key in refs {
        match read(&key.source, env) {
            Ok(bytes) => keys.push(bytes),
            Err(cause) => errors.push(KeyLoadError { id: key.id.clone(), cause }),
        }
    }
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::seal::Purpose;
    use crate::session::{Parts, Session};

    #[test]
    fn a_changed_file_is_used_and_a_bad_one_is_not() {
        let path = std::env::temp_dir().join(format!("embedgate-keys-{}", std::process::id()));
        fs::write(&path, "01".repeat(32)).unwrap();
        let refs = [KeyRef { id: "k1".into(), source: KeySource::File(path.clone()) }];
        let keys = Keys::load(&refs, &Env::new()).unwrap();
        let parts = Parts { id: [0; 16], issued: 0, expires: 9, org: "o", user: "u", email: "a@b", app: None };
        let token = keys.ring().seal(Purpose::Session, &Session::new(parts).unwrap()).unwrap().unwrap();
        let opens = || keys.ring().open(Purpose::Session, token.as_bytes(), 1).is_ok();

        assert!(!keys.reload().unwrap() && opens());
        fs::write(&path, "nonsense").unwrap();
        assert!(keys.reload().is_err() && opens());
        fs::write(&path, "02".repeat(32)).unwrap();
        assert!(keys.reload().unwrap() && !opens());
        fs::remove_file(&path).unwrap();
    }
}
