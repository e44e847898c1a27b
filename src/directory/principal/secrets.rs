//! The secrets of a principal, wherever they are kept.

use super::Reader;
use crate::config::reader::Item;
use crate::directory::stamp::Stamp;
use crate::secret::Secret;
use std::fmt::Display;
use zeroize::Zeroizing;

const PLACES: &[&str] = &["env", "file", "sealed"];

const CLEAR_TEXT: &str =
    "a secret in clear text is accepted only for loopback workspaces; use { env = .. } or { file = .. }";

impl Reader<'_, '_> {
    /// A secret that must be there and that `check` lets pass; what `check` says is shown, so it must not repeat any of it.
    pub(super) fn secret<E: Display>(&self, key: &str, check: impl FnOnce(&str) -> Result<(), E>) -> Option<Secret> {
        let advice = format!("write {key} = {{ env = \"...\" }} or {{ file = \"...\" }}");
        let item = self.section.require(key, &advice)?;
        let text = if let Some(text) = item.as_text() {
            if self.loopback == Some(false) {
                item.wrong(CLEAR_TEXT);
            }
            Zeroizing::new(text.to_owned())
        } else if item.as_table().is_some() {
            self.kept_elsewhere(&item, &advice)?
        } else {
            item.wrong(format!("is not a secret; {advice}"));
            return None;
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            item.wrong("the secret is empty");
            return None;
        }
        check(text).map_err(|message| item.wrong(format!("the secret {message}"))).ok()?;
        Some(Secret::new(text.to_owned()))
    }

    /// Certificates in PEM, which are no secret and so may stand in the directory itself.
    pub(super) fn certificates(&self, key: &str) -> Option<String> {
        let advice = format!("write {key} = {{ file = \"...\" }}, the certificate in PEM");
        let item = self.section.require(key, &advice)?;
        if item.as_table().is_some() {
            return self.kept_elsewhere(&item, &advice).map(|text| text.to_string());
        }
        item.text().map(str::to_owned)
    }

    /// A text that is kept in a variable, in a file or sealed.
    fn kept_elsewhere(&self, item: &Item<'_>, advice: &str) -> Option<Zeroizing<String>> {
        let place = item.section(PLACES)?;
        match (place.get("env"), place.get("file"), place.get("sealed")) {
            (Some(item), None, None) => {
                let name = item.text()?;
                let value = self.context.env.get(name).cloned().map(Zeroizing::new);
                if value.is_none() {
                    item.wrong(format!("the environment variable {name:?} is not set"));
                }
                value
            }
            (None, Some(item), None) => {
                let path = item.path()?;
                let before = Stamp::of(&path);
                let read = std::fs::read_to_string(&path).map(Zeroizing::new);
                let text = read.map_err(|error| item.wrong(format!("cannot read {}: {error}", path.display()))).ok();
                self.context.files.borrow_mut().push((path, before));
                text
            }
            (None, None, Some(item)) => self.opened(&item),
            (None, None, None) => {
                place.lacks(format!("does not say where the secret is; {advice}"));
                None
            }
            _ => {
                item.wrong("says in more than one way where the secret is; keep one of env, file and sealed");
                None
            }
        }
    }

    /// The text of a secret that stands here sealed.
    fn opened(&self, item: &Item<'_>) -> Option<Zeroizing<String>> {
        let sealed = item.text()?;
        let (org, principal) = self.whose?;
        let secret = self.context.vault.open(org.as_str(), principal.as_str(), sealed);
        let secret = secret.map_err(|error| item.wrong(error.to_string())).ok()?;
        Some(Zeroizing::new(secret.expose().to_owned()))
    }
}
