//! What secrets and hosts must look like, wherever they are kept.

use crate::model::url::{AllowedHosts, BaseUrl, Forbidden};

/// Why the policy does not allow a host, with what to do; none if it does.
pub(super) fn forbidden(policy: &AllowedHosts, url: &BaseUrl) -> Option<String> {
    match policy.permits(url).err()? {
        error @ Forbidden::Domain(_) => Some(format!("{error}; add it there, or write another URL")),
        error => Some(format!("{error} and is for local work only")),
    }
}

/// A client secret: it is percent-encoded on its way, but control characters mean that the wrong thing was copied.
pub(super) fn no_controls(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) { Err("holds a line break or another control character") } else { Ok(()) }
}

/// What a header field takes after `Bearer ` (RFC 6750 2.1).
pub(super) fn header_safe(text: &str) -> Result<(), &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("holds spaces or letters that no token has; write the token alone, without the word Bearer")
    }
}
