//! What the path and headers of a request hold: keys (RFC 9725 §4.7), the session, and the ICE session (§4.3.1).
//!
//! Pure, and total: whatever strangers send is read or left.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, IF_MATCH, USER_AGENT};
use model::{ResourceId, Secret};

/// The type of offers and answers (RFC 4566 §8.1).
pub(super) const SDP: &str = "application/sdp";
/// The type of fragments (RFC 8840 §9).
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Longest key that is looked up; LiveKit's have 12 characters.
const MAX_KEY_LENGTH: usize = 256;

/// What a path names: `/{app}`, `/{app}/{key}`, `/{app}/{key}/{resource}`. What comes before is the application, at any depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The application; without a slash at either end.
    pub app: String,
    /// A stream key, if the path may hold one.
    pub key: Option<Secret>,
    /// A session, if the path ends with one.
    pub resource: Option<ResourceId>,
}

impl Target {
    /// Reads a path. `None` if it names nothing.
    pub fn read(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let resource = parts.last().filter(|last| is_resource(last)).map(|last| ResourceId((*last).to_owned()));
        if resource.is_some() {
            parts.pop();
        }
        // A session's path has a key even where the application has no name.
        let least = if resource.is_some() { 1 } else { 2 };
        let key = if parts.len() >= least { parts.pop().and_then(unescaped) } else { None };
        let target =
            Self { app: parts.join("/"), key: key.filter(|k| k.len() <= MAX_KEY_LENGTH).map(Secret::new), resource };
        (!target.app.is_empty() || target.resource.is_some()).then_some(target)
    }
}

/// A part of a path without the escapes of RFC 3986 §2.1; `None` if one is damaged or stands for what no key has.
fn unescaped(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut text = String::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let byte = if byte == b'%' { (digit()? << 4 | digit()?) as u8 } else { byte };
        if !byte.is_ascii_graphic() {
            return None;
        }
        text.push(char::from(byte));
    }
    Some(text)
}

/// Whether it is the id of a WHIP session: `WH_` and twelve letters or digits. No stream key of LiveKit's looks like that.
fn is_resource(text: &str) -> bool {
    text.strip_prefix("WH_").is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The key of an `Authorization` header: after `Bearer`, or alone. Other schemes are for a proxy before us.
pub fn key_of(authorization: &str) -> Option<Secret> {
    let text = authorization.trim();
    let key = match text.split_once(char::is_whitespace) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
        Some(_) => return None,
        None if text.eq_ignore_ascii_case("bearer") => return None,
        None => text,
    };
    let usable = !key.is_empty() && key.len() <= MAX_KEY_LENGTH && key.bytes().all(|b| b.is_ascii_graphic());
    usable.then(|| Secret::new(key))
}

/// The keys that a request shows, the first of which that somebody has counts: in its header, then in its path.
pub(super) fn keys(headers: &HeaderMap, target: &Target) -> Vec<Secret> {
    let mut keys: Vec<Secret> = text(headers, AUTHORIZATION).and_then(key_of).into_iter().collect();
    keys.extend(target.key.clone().filter(|key| !keys.contains(key)));
    keys
}

/// Whether the body is of this type; parameters don't matter.
pub fn is_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(wanted))
}

/// Whether the body is of this type, by its header.
pub(super) fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    text(headers, CONTENT_TYPE).is_some_and(|name| is_type(name, wanted))
}

/// Which ICE session a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Not said.
    Missing,
    /// Whichever runs: asks for a restart.
    Any,
    /// One of these.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Reads the header (RFC 9110 §13.1.1). Tags count without their quotes, which the Go ingress leaves out. A weak tag never
    /// matches, and what is no tag doesn't either.
    pub fn read(header: &str) -> Self {
        let header = header.trim();
        if header.is_empty() {
            return Self::Missing;
        }
        let tags = header.split(',').map(str::trim).filter(|tag| !tag.is_empty() && !tag.starts_with("W/"));
        let bare = |tag: &str| match tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            Some(inside) => inside.to_owned(),
            None => tag.to_owned(),
        };
        match header {
            "*" | "\"*\"" => Self::Any,
            _ => Self::Tags(tags.map(bare).collect()),
        }
    }

    /// Whether it names this one.
    pub fn names(&self, tag: &str) -> bool {
        match self {
            Self::Missing => false,
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|t| t == tag),
        }
    }
}

/// All `If-Match` headers as one.
pub(super) fn if_match(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers.get_all(IF_MATCH).iter().filter_map(|v| v.to_str().ok()).collect();
    values.join(",")
}

/// The length of the body, where the request has it.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH)?.trim().parse().ok()
}

/// Whether the client waits for permission to send its body (RFC 9110 §10.1.1); `Err` if it expects something else.
pub(super) fn expects(headers: &HeaderMap) -> Result<bool, ()> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(()),
    }
}

/// What the client calls itself, fit for a log.
pub(super) fn agent(headers: &HeaderMap) -> String {
    text(headers, USER_AGENT).unwrap_or_default().chars().take(120).collect()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(path: &str) -> Option<(String, Option<String>, Option<String>)> {
        let t = Target::read(path)?;
        Some((t.app, t.key.map(|k| k.expose().to_owned()), t.resource.map(|r| r.0)))
    }

    #[test]
    fn paths() {
        let some = |app: &str, key: Option<&str>, resource: Option<&str>| {
            Some((app.to_owned(), key.map(str::to_owned), resource.map(str::to_owned)))
        };
        assert_eq!(target("/w"), some("w", None, None));
        assert_eq!(target("/w/"), some("w", None, None));
        assert_eq!(target("/w/KEY"), some("w", Some("KEY"), None));
        assert_eq!(target("//live/eu/KEY"), some("live/eu", Some("KEY"), None));
        assert_eq!(target("/w/KEY/WH_abcDEF123456"), some("w", Some("KEY"), Some("WH_abcDEF123456")));
        assert_eq!(target("/a/b/KEY/WH_abcDEF123456/"), some("a/b", Some("KEY"), Some("WH_abcDEF123456")));
        assert_eq!(target("/w/WH_abcDEF123456"), some("", Some("w"), Some("WH_abcDEF123456")));
        assert_eq!(target("/w/WH_short"), some("w", Some("WH_short"), None));
        assert_eq!(target("/w/%4bE%59"), some("w", Some("KEY"), None));
        for no_key in ["/w/%4", "/w/%", "/w/%zz", "/w/a%0a", "/w/%20", "/w/%ff", "/w/%+4"] {
            assert_eq!(target(no_key), some("w", None, None), "{no_key}");
        }
        for nothing in ["", "/", "///"] {
            assert_eq!(target(nothing), None);
        }
    }

    #[test]
    fn authorization() {
        for (header, key) in [
            ("Bearer abc", Some("abc")),
            ("bearer   abc ", Some("abc")),
            ("BEARER\tabc", Some("abc")),
            ("abc", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("", None),
            ("Basic dXNlcjpwYXNz", None),
            ("Bearer a b", None),
            ("Bearer a\u{e9}", None),
        ] {
            assert_eq!(key_of(header).as_ref().map(Secret::expose), key, "{header}");
        }
        assert!(key_of(&format!("Bearer {}", "a".repeat(257))).is_none());
    }

    #[test]
    fn both_keys_count_once() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer one".parse().unwrap());
        let read = |path: &str| keys(&headers, &Target::read(path).unwrap()).len();
        assert_eq!((read("/w"), read("/w/two"), read("/w/one")), (1, 2, 1));
        headers.insert(AUTHORIZATION, "Basic x y".parse().unwrap());
        assert!(keys(&headers, &Target::read("/w").unwrap()).is_empty());
    }

    #[test]
    fn conditions() {
        assert_eq!(IfMatch::read(" "), IfMatch::Missing);
        assert_eq!(IfMatch::read("*"), IfMatch::Any);
        for header in ["\"ab\"", "ab", "\"x\", \"ab\"", " ab "] {
            assert!(IfMatch::read(header).names("ab"), "{header}");
        }
        for header in ["W/\"ab\"", "\"AB\"", "\"a\"", ",", ""] {
            assert!(!IfMatch::read(header).names("ab"), "{header}");
        }
    }

    #[test]
    fn content_types() {
        for name in ["application/sdp", "Application/SDP; charset=utf-8", " application/sdp ;x"] {
            assert!(is_type(name, SDP), "{name}");
        }
        for name in ["", "application/sdpx", "text/plain", ";application/sdp"] {
            assert!(!is_type(name, SDP), "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_left(text in "\\PC{0,80}", tag in "[a-zA-Z0-9+/]{1,20}") {
            if let Some(key) = key_of(&text) {
                prop_assert!(text.contains(key.expose()));
            }
            if let Some(target) = Target::read(&text) {
                prop_assert!(!target.app.starts_with('/') && !target.app.ends_with('/'));
                prop_assert!(target.resource.is_none_or(|r| r.0.len() == 15));
            }
            is_type(&text, SDP);
            IfMatch::read(&text);
            let (quoted, listed) = (format!("\"{tag}\""), format!("\"{text}\",\"{tag}\""));
            prop_assert!(IfMatch::read(&quoted).names(&tag));
            prop_assert!(IfMatch::read(&listed).names(&tag));
        }
    }
}
