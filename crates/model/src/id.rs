//! Names of things, and secrets that don't print.

use std::fmt;

/// The configured ingress (`IN_…`), chosen by the control plane. Outlives any number of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressId(pub String);

/// One session of an ingress (`RT_`, `WH_` or `UR_` and 12 letters or digits), chosen by us when media arrives.
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

/// A value that must not reach a log, an error text or a state: a stream key, an API secret, a token, a password.
/// `Debug` and `Display` print it redacted; [`Secret::expose`] is the only way to its text.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Shows only as many letters at each end as leave at least two thirds hidden, so that an operator can tell two keys apart.
/// The thresholds are those of the Go ingress (9, 6 and 3 letters), which operators' log searches know.
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
    fn secrets_print_redacted() {
        assert_eq!(Secret::new("Uvg8i8xsZSBS").to_string(), "{Uvg...SBS}");
        assert_eq!(format!("{:?}", Secret::new("abcdef")), "{ab...ef}");
        assert_eq!(Secret::new("abc").to_string(), "{a...c}");
        assert_eq!(Secret::new("ab").to_string(), "{...}");
        assert_eq!(Secret::default().to_string(), "{...}");
    }
}
