//! One type per kind of identifier, so that an app's id cannot be passed where an organisation's is meant.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest identifier, in bytes: a host label (RFC 1035 2.3.4) and small enough for several in one sealed token.
pub const MAX_ID_LEN: usize = 63;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {MAX_ID_LEN} characters of A-Z, a-z, 0-9, '-' and '_'")]
pub struct InvalidId;

/// Whether `text` may stand as an identifier in a path, a cookie name and a log field without any escaping.
#[must_use]
pub fn is_valid_id(text: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes over an identifier.
            ///
            /// # Errors
            /// [`InvalidId`] when the text is empty, too long or holds another character.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_valid_id(text) { Ok(Self(text.into())) } else { Err(InvalidId) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(
    /// An organisation: the tenant.
    OrgId
);
id!(
    /// A workspace of an organisation.
    WorkspaceId
);
id!(
    /// A service principal: the identity used upstream.
    PrincipalId
);
id!(
    /// An app, warehouse or engine of an organisation.
    UpstreamId
);
id!(
    /// A cluster of an upstream.
    ClusterId
);
id!(
    /// A rule about what may be called of an organisation's workspaces.
    RuleId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_in_paths_cookie_names_and_logs() {
        for good in ["a", "acme", "A_b-9", &"x".repeat(MAX_ID_LEN)] {
            assert_eq!(OrgId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "a.b", "é", "a\n", &"x".repeat(MAX_ID_LEN + 1)] {
            assert_eq!(OrgId::parse(bad), Err(InvalidId), "{bad:?}");
        }
    }
}
