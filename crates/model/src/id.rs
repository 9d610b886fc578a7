//! Ids, and secrets, which print redacted.

use std::fmt;
use std::hash::{Hash, Hasher};
use subtle::ConstantTimeEq;

/// The id of a configured ingress (`IN_…`), chosen by the control plane. An ingress has any number of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressId(pub String);

/// The id of one session of an ingress (`RT_`, `WH_` or `UR_` and 12 letters or digits), chosen by us when a publisher connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub String);

impl fmt::Display for IngressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that must not reach a log, an error text or a reported state: a stream key, an API secret, a token, a password.
/// `Debug` and `Display` print it redacted; [`Secret::expose`] is the only way to its text. Comparing two takes a time that does
/// not depend on where they differ, so that it cannot be guessed byte by byte.
#[derive(Clone, Default)]
pub struct Secret(String);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty: there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Shows a few letters at each end, at least a third hidden, so that an operator can tell two keys apart. The thresholds are those
/// of the Go ingress (9, 6 and 3 letters), which operators search their logs for.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chars: Vec<char> = self.0.chars().collect();
        let shown = match chars.len() {
            9.. => 3,
            6..=8 => 2,
            3..=5 => 1,
            _ => 0,
        };
        let (head, tail) = (&chars[..shown], &chars[chars.len() - shown..]);
        write!(f, "{{{}...{}}}", head.iter().collect::<String>(), tail.iter().collect::<String>())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<String> for Secret {
    fn from(s: String) -> Self {
        Self(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_equal_if_all_of_them_is() {
        assert_eq!(Secret::new("abc"), Secret::new("abc"));
        for other in ["abd", "xbc", "ab", "abcd", ""] {
            assert_ne!(Secret::new("abc"), Secret::new(other), "{other}");
        }
    }

    #[test]
    fn secrets_print_redacted() {
        assert_eq!(Secret::new("Uvg8i8xsZSBS").to_string(), "{Uvg...SBS}");
        assert_eq!(format!("{:?}", Secret::new("abcdef")), "{ab...ef}");
        assert_eq!(Secret::new("abc").to_string(), "{a...c}");
        assert_eq!(Secret::new("ab").to_string(), "{...}");
        assert_eq!(Secret::default().to_string(), "{...}");
    }
}
