//! AWS Signature Version 4 (AWS4-HMAC-SHA256): a request is signed with a secret that never travels. The signature covers
//! the head as it goes out, so it is made last of all.

use crate::clock::UnixSeconds;
use crate::model::principal::{Payload, SigV4};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What of the body is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it; nothing where there is none.
    Whole(&'a [u8]),
    /// None of it: it goes on as it comes.
    Unsigned,
}

impl SigV4 {
    /// Whether the body has to be there before the head can be signed.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.payload == Payload::Signed
    }

    /// The lines to put behind `head`, a request line and fields in which nothing changes any more. Signed are its host,
    /// its content type and all that begins with `x-amz-`.
    #[must_use]
    pub fn sign(&self, head: &[u8], body: Body<'_>, now: UnixSeconds) -> String {
        let time = Time::of(now);
        let hash = match body {
            Body::Whole(body) => hex(Sha256::digest(body)),
            Body::Unsigned => UNSIGNED.to_owned(),
        };
        let mut own = vec![("X-Amz-Date", time.stamp())];
        if self.is_s3() || body == Body::Unsigned {
            own.push(("X-Amz-Content-Sha256", hash.clone()));
        }
        if let Some(token) = &self.session_token {
            own.push(("X-Amz-Security-Token", token.expose().to_owned()));
        }
        let (canonical, names) = self.canonical(head, &own, &hash);
        let scope = format!("{}/{}/{}/aws4_request", time.day(), self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", time.stamp(), hex(Sha256::digest(canonical)));
        let signature = hex(self.key(&time.day()).sign(to_sign.as_bytes()));
        let mut lines = String::new();
        for (name, value) in own {
            // Writing to a string does not fail.
            let _ = write!(lines, "{name}: {value}\r\n");
        }
        let credential = format!("{}/{scope}", self.access_key_id);
        let _ = write!(
            lines,
            "Authorization: {ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}\r\n"
        );
        lines
    }

    /// The canonical request, and the names of the fields in it.
    fn canonical(&self, head: &[u8], own: &[(&str, String)], hash: &str) -> (Vec<u8>, String) {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let query = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = (&target[..query], target.get(query + 1..).unwrap_or_default());
        let fields = fields(lines, own);
        let names = fields.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(";");
        let path = if self.is_s3() { path.to_vec() } else { encoded(&normal(path), true).into_bytes() };
        let mut canonical = [method, b"\n", &path, b"\n", canonical_query(query).as_bytes(), b"\n"].concat();
        for (name, value) in &fields {
            canonical.extend([name.as_bytes(), b":", value, b"\n"].concat());
        }
        canonical.extend([b"\n", names.as_bytes(), b"\n", hash.as_bytes()].concat());
        (canonical, names)
    }

    /// Only S3 takes paths as they are.
    fn is_s3(&self) -> bool {
        matches!(&*self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
    }

    /// The signing key of a day.
    fn key(&self, day: &str) -> Key {
        let secret = zeroize::Zeroizing::new(format!("AWS4{}", self.secret_access_key.expose()));
        let first = Key::new(secret.as_bytes());
        [day, &*self.region, &*self.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| Key::new(key.sign(part.as_bytes()).as_ref()))
    }
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

struct Key(hmac::Key);

impl Key {
    fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, bytes))
    }

    fn sign(&self, message: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, message)
    }
}

/// The fields that are signed, by their names in lower case and in their order; several of one name are one list.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>, own: &[(&str, String)]) -> Vec<(String, Vec<u8>)> {
    let field = |line: &'a [u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        let is_signed = matches!(&*name, "host" | "content-type") || name.starts_with("x-amz-");
        is_signed.then(|| (name, value(&line[colon + 1..])))
    };
    let own = own.iter().map(|(name, text)| (name.to_ascii_lowercase(), text.clone().into_bytes()));
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in lines.filter_map(field).chain(own) {
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.extend([b",", &*value].concat()),
            None => fields.push((name, value)),
        }
    }
    fields.sort_unstable();
    fields
}

/// A value without spaces around it, and with one where there are several.
fn value(bytes: &[u8]) -> Vec<u8> {
    let words: Vec<_> = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.join(&b' ')
}

/// A path without dot segments (RFC 3986 5.2.4) and empty ones.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let ends = if path.ends_with(b"/") && !kept.is_empty() { "/" } else { "" };
    [b"/", &*kept.join(&b'/'), ends.as_bytes()].concat()
}

/// Names and values with their encoding made uniform, in their order.
fn canonical_query(query: &[u8]) -> String {
    let pair = |pair: &[u8]| {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let uniform = |bytes: &[u8]| encoded(&decoded(bytes), false);
        (uniform(&pair[..equals]), uniform(pair.get(equals + 1..).unwrap_or_default()))
    };
    let mut pairs: Vec<_> = query.split(|byte| *byte == b'&').filter(|one| !one.is_empty()).map(pair).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Everything encoded but letters, digits and `-._~` (RFC 3986 2.3), and slashes where they are kept.
fn encoded(bytes: &[u8], keeps_slashes: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push((*byte).into()),
            b'/' if keeps_slashes => text.push('/'),
            other => {
                // Writing to a string does not fail.
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = digits.filter(|_| *byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        decoded.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    decoded
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A moment as signatures have it.
struct Time {
    date: (u64, u64, u64),
    seconds: u64,
}

impl Time {
    fn of(now: UnixSeconds) -> Self {
        Self { date: date(now / 86_400), seconds: now % 86_400 }
    }

    fn day(&self) -> String {
        let (year, month, day) = self.date;
        format!("{year:04}{month:02}{day:02}")
    }

    fn stamp(&self) -> String {
        let (hours, minutes, seconds) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        format!("{}T{hours:02}{minutes:02}{seconds:02}Z", self.day())
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar: years begin in March, so that leap days come
/// last, and 146,097 days are 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// The credential and the moment of the published test suite.
    fn suite() -> SigV4 {
        SigV4 {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session_token: None,
            region: "us-east-1".into(),
            service: "service".into(),
            payload: Payload::Signed,
        }
    }
    const MOMENT: UnixSeconds = 1_440_938_160;

    fn signature(of: &SigV4, target: &str, body: Body<'_>) -> (String, String) {
        let (method, target) = target.split_once(' ').unwrap();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: example.amazonaws.com\r\n");
        let lines = of.sign(head.as_bytes(), body, MOMENT);
        let signature = lines.split("Signature=").nth(1).unwrap().trim_end().to_owned();
        (lines, signature)
    }

    #[test]
    fn the_published_vectors_come_out() {
        let empty = Body::Whole(b"");
        let (lines, vanilla) = signature(&suite(), "GET /", empty);
        assert_eq!(
            lines,
            "X-Amz-Date: 20150830T123600Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31\r\n"
        );
        let order = signature(&suite(), "GET /?Param2=value2&Param1=value1", empty).1;
        assert_eq!(order, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
        let post = signature(&suite(), "POST /", empty).1;
        assert_eq!(post, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        // Paths that mean the same are signed the same.
        for same in ["GET /./", "GET //", "GET /a/..", "GET /a/b/../.."] {
            assert_eq!(signature(&suite(), same, empty).1, vanilla, "{same}");
        }
    }

    #[test]
    fn what_is_not_signed_is_said() {
        let s3 = SigV4 { service: "s3".into(), session_token: Some(Secret::new("tok".into())), ..suite() };
        let (lines, _) = signature(&s3, "PUT /a%20b", Body::Unsigned);
        assert!(lines.contains("X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Security-Token: tok\r\n"), "{lines}");
        assert!(lines.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"), "{lines}");
        assert!(!lines.contains("wJalr"));
    }

    #[test]
    fn requests_are_made_uniform() {
        assert_eq!(canonical_query(b"b=%2f&a=x+y&a=&c&&a=%zz"), "a=&a=%25zz&a=x%2By&b=%2F&c=");
        assert_eq!(value(b"  a   b\t c "), b"a b c");
        assert_eq!(encoded(&normal(b"/a/../b%20c/"), true), "/b%2520c/");
        let dates = [(0, (1970, 1, 1)), (951_782_400, (2000, 2, 29)), (1_735_603_200, (2024, 12, 31))];
        for (seconds, expected) in dates {
            assert_eq!(Time::of(seconds).date, expected);
        }
    }
}
