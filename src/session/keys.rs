//! The key ring in use. Files are read again while running, so that keys rotate without a restart.

use super::seal::{KeyError, KeyRing, parse_key};
use crate::config::{Env, KeyRef, KeySource};
use crate::vault::Vault;
use arc_swap::{ArcSwap, Guard};
use hkdf::Hkdf;
use sha2::Sha256;
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
    /// What its variable holds is no key.
    #[error("the environment variable {name}: {cause}")]
    KeyInEnv {
        /// Which variable.
        name: String,
        /// What is wrong with it.
        cause: KeyError,
    },
}

/// Reads one key.
///
/// # Errors
/// [`KeyLoadCause`] says what is wrong; never the key itself.
pub fn read(source: &KeySource, env: &Env) -> Result<[u8; 32], KeyLoadCause> {
    match source {
        KeySource::File(path) => {
            let text = fs::read_to_string(path);
            Ok(parse_key(&text.map_err(|cause| KeyLoadCause::File { path: path.clone(), cause })?)?)
        }
        KeySource::Env(name) => {
            let text = env.get(name).ok_or_else(|| KeyLoadCause::Env(name.clone()))?;
            parse_key(text).map_err(|cause| KeyLoadCause::KeyInEnv { name: name.clone(), cause })
        }
    }
}

/// The session key that belongs to a key with another use: whoever has the one has the other, and neither opens what the
/// other seals (HKDF-SHA-256, RFC 5869).
fn derived(key: &[u8; 32]) -> [u8; 32] {
    let mut derived = [0; 32];
    let expanded = Hkdf::<Sha256>::new(None, key).expand(b"embedgate session key 1", &mut derived);
    expanded.expect("one block of the hash is never too long");
    derived
}

/// The keys in use and the ring made of them.
pub struct Keys {
    refs: Vec<KeyRef>,
    env: Env,
    ring: ArcSwap<KeyRing>,
    vault: Arc<Vault>,
    loaded: Mutex<Loaded>,
}

/// Ids and keys, those of the configuration first.
struct Loaded {
    read: Vec<(String, [u8; 32])>,
    /// Kept somewhere else, and handed in when they are known.
    kept: Vec<(String, [u8; 32])>,
}

impl Loaded {
    fn all(&self) -> impl Iterator<Item = (String, [u8; 32])> {
        self.read.iter().chain(&self.kept).cloned()
    }
}

impl Keys {
    /// Reads all keys.
    ///
    /// # Errors
    /// Every key that cannot be had.
    pub fn load(refs: &[KeyRef], env: &Env) -> Result<Self, Vec<KeyLoadError>> {
        let loaded = Loaded { read: read_all(refs, env)?, kept: Vec::new() };
        let ring = ArcSwap::from_pointee(KeyRing::new(loaded.all()));
        let vault = Arc::new(Vault::new(loaded.all()));
        Ok(Self { refs: refs.to_vec(), env: env.clone(), ring, vault, loaded: Mutex::new(loaded) })
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
        let read = read_all(&self.refs, &self.env)?;
        Ok(self.change(|loaded| loaded.read = read))
    }

    /// Uses these keys, which the configuration does not name, behind its own from now on.
    pub fn replace_kept(&self, kept: Vec<(String, [u8; 32])>) {
        self.change(|loaded| loaded.kept = kept);
    }

    /// Says whether the keys are others than before.
    fn change(&self, change: impl FnOnce(&mut Loaded)) -> bool {
        // A poisoned lock only means that another change panicked; the lists it guards are replaced whole.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = loaded.all().collect();
        change(&mut loaded);
        if loaded.all().eq(before) {
            return false;
        }
        self.ring.store(Arc::new(KeyRing::new(loaded.all())));
        self.vault.replace(loaded.all());
        true
    }
}

fn read_all(refs: &[KeyRef], env: &Env) -> Result<Vec<(String, [u8; 32])>, Vec<KeyLoadError>> {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for key in refs {
        match read(&key.source, env) {
            Ok(bytes) => keys.push((key.id.clone(), if key.derived { derived(&bytes) } else { bytes })),
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
        let refs = [KeyRef { id: "k1".into(), source: KeySource::File(path.clone()), derived: false }];
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

    #[test]
    fn a_derived_key_is_another_and_always_the_same() {
        let env: Env = [("K".to_owned(), "0b".repeat(32))].into();
        let key = |derived| KeyRef { id: "k".into(), source: KeySource::Env("K".into()), derived };
        let parts = Parts { id: [0; 16], issued: 0, expires: 9, org: "o", user: "u", email: "a@b", app: None };
        let session = Session::new(parts).unwrap();
        let [plain, one, other] = [false, true, true].map(|derived| Keys::load(&[key(derived)], &env).unwrap());
        let token = one.ring().seal(Purpose::Session, &session).unwrap().unwrap();
        assert!(other.ring().open(Purpose::Session, token.as_bytes(), 1).is_ok());
        assert!(plain.ring().open(Purpose::Session, token.as_bytes(), 1).is_err());
        // Computed with Python's hmac module.
        assert_eq!(derived(&[11; 32])[..4], [184, 243, 242, 214]);
    }

    #[test]
    fn a_kept_key_comes_later_and_stays() {
        let keys = Keys::load(&[], &Env::new()).unwrap();
        let parts = Parts { id: [0; 16], issued: 0, expires: 9, org: "o", user: "u", email: "a@b", app: None };
        let seal = || keys.ring().seal(Purpose::Session, &Session::new(parts).unwrap()).unwrap();
        assert_eq!(seal(), None);
        keys.replace_kept(vec![("firefly".to_owned(), [7; 32])]);
        assert!(seal().unwrap().starts_with("~1.firefly."));
        assert!(!keys.reload().unwrap());
        assert!(seal().is_some());
    }
}
