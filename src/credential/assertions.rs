//! The gateway's own keys, with which it vouches for principals at issuers that trust it: the first signs, and the public
//! halves of all are published. Files are read again while running, so that keys rotate without a restart.

use super::mint::Unmade;
use crate::config::{AssertionKey, Env, KeySource};
use crate::secret::Secret;
use crate::signing::{Algorithm, SigningKey, SigningKeyError};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

/// A key that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("assertion key {id:?}: {cause}")]
pub struct AssertionKeyError {
    /// The key's id in the configuration.
    pub id: String,
    /// What is wrong.
    pub cause: AssertionKeyCause,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum AssertionKeyCause {
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
    /// Its text is no such key.
    #[error("what it names {0}")]
    Key(#[from] SigningKeyError),
}

/// The keys in use.
pub struct Assertions {
    refs: Vec<AssertionKey>,
    env: Env,
    issuer: String,
    /// What was read last, to tell a change by.
    read: Mutex<Vec<Secret>>,
    keys: ArcSwap<Ring>,
}

#[derive(Default)]
struct Ring {
    first: Option<(String, SigningKey)>,
    published: Option<Arc<str>>,
}

impl Assertions {
    /// Reads all keys. JWTs come from `issuer` where a principal does not say otherwise.
    ///
    /// # Errors
    /// Every key that cannot be had.
    pub fn load(refs: &[AssertionKey], issuer: String, env: &Env) -> Result<Self, Vec<AssertionKeyError>> {
        let (read, ring) = load(refs, env)?;
        Ok(Self {
            refs: refs.to_vec(),
            env: env.clone(),
            issuer,
            read: Mutex::new(read),
            keys: ArcSwap::from_pointee(ring),
        })
    }

    /// Reads the keys again and uses them if they changed; says whether they did. On an error those before stay.
    ///
    /// # Errors
    /// Every key that cannot be had.
    pub fn reload(&self) -> Result<bool, Vec<AssertionKeyError>> {
        let (read, ring) = load(&self.refs, &self.env)?;
        // A poisoned lock only means that another reload panicked; the list it guards is replaced whole.
        let mut before = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == read {
            return Ok(false);
        }
        *before = read;
        self.keys.store(Arc::new(ring));
        Ok(true)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517 5); none where there is no key.
    #[must_use]
    pub fn published(&self) -> Option<Arc<str>> {
        self.keys.load().published.clone()
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<Secret, Unmade> {
        let ring = self.keys.load();
        let (id, key) = ring.first.as_ref().ok_or(Unmade::NoAssertionKey)?;
        Ok(key.jwt(Some(id), claims)?)
    }
}

fn load(refs: &[AssertionKey], env: &Env) -> Result<(Vec<Secret>, Ring), Vec<AssertionKeyError>> {
    let (mut read, mut keys, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for AssertionKey { id, source } in refs {
        let found = text(source, env).and_then(|pem| {
            let key = SigningKey::from_pem(Algorithm::Es256, &pem)?;
            read.push(pem);
            Ok(key)
        });
        match found {
            Ok(key) => keys.push((id.clone(), key)),
            Err(cause) => errors.push(AssertionKeyError { id: id.clone(), cause }),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let public: Vec<_> = keys.iter().filter_map(|(id, key)| key.jwk(id)).collect();
    let published = (!public.is_empty()).then(|| json!({ "keys": public }).to_string().into());
    Ok((read, Ring { first: keys.into_iter().next(), published }))
}

fn text(source: &KeySource, env: &Env) -> Result<Secret, AssertionKeyCause> {
    match source {
        KeySource::File(path) => {
            let failed = |cause| AssertionKeyCause::File { path: path.clone(), cause };
            fs::read_to_string(path).map(Secret::new).map_err(failed)
        }
        KeySource::Env(name) => {
            env.get(name).cloned().map(Secret::new).ok_or_else(|| AssertionKeyCause::Env(name.clone()))
        }
    }
}
