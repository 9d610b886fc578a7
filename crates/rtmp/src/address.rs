//! Where a publisher wants to publish: the application of `connect` and the name of `publish`, as encoders fill them in.

use model::Secret;
use percent_encoding::percent_decode_str;

/// The longest stream key in bytes. Those of livekit-server have 12; a longer one is not looked up.
const MAX_KEY: usize = 256;
/// The most characters of a peer's text that are kept for logs.
const MAX_SHOWN: usize = 128;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Address {
    /// The first segment of the application, for logs. It prints redacted: which segment people take for the place of their key is
    /// theirs to choose.
    pub(crate) app: Secret,
    /// What may be the stream key, the likeliest first: nothing but a lookup can tell.
    pub(crate) keys: Vec<Secret>,
}

impl Address {
    /// Reads an application and a publishing name.
    ///
    /// The key is the last segment of the name, without query. Encoders with a single address field put all of it into the application,
    /// and split an address at a `/` in its query: so the last segment of the application, if there is one before it, may be the key
    /// too. People paste keys with blanks around them, and some encoders encode what they send (`live%2FKEY`).
    pub(crate) fn read(app: &str, name: &str) -> Self {
        let (path, name) = (plain(app), plain(name));
        let mut found = vec![last_segment(name)];
        if name.is_empty() || app.contains('?') {
            found.extend(path.rsplit_once('/').map(|(_, last)| last));
        }
        let mut keys: Vec<Secret> = Vec::new();
        for key in found {
            let decoded = percent_decode_str(key).decode_utf8_lossy();
            for key in [key, last_segment(decoded.trim())] {
                let known = keys.iter().any(|known| known.expose() == key);
                if !key.is_empty() && key.len() <= MAX_KEY && !known {
                    keys.push(Secret::new(key));
                }
            }
        }
        let first = path.split('/').next().map(shown).unwrap_or_default();
        Self { app: Secret::new(first), keys }
    }
}

/// A path without query, and without blanks and slashes around it.
fn plain(path: &str) -> &str {
    path.split('?').next().unwrap_or_default().trim_matches(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A peer's text for a log: shortened, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found_as_encoders_send_them() {
        let long = "k".repeat(MAX_KEY + 1);
        for (app, name, expected) in [
            ("live", "KEY", &["KEY"][..]),
            ("live", "live/KEY?a=b", &["KEY"]),
            ("live", "KEY?a=b/c", &["KEY"]),
            ("live?a=b/c", "KEY", &["KEY"]),
            ("live/KEY?a=b", "c", &["c", "KEY"]),
            ("live/KEY", "", &["KEY"]),
            ("live", "", &[]),
            ("live", " KEY\n", &["KEY"]),
            ("live", "live%2FKEY", &["live%2FKEY", "KEY"]),
            ("live", "K%45Y%0A", &["K%45Y%0A", "KEY"]),
            ("live", &long, &[]),
        ] {
            let address = Address::read(app, name);
            let keys: Vec<_> = address.keys.iter().map(Secret::expose).collect();
            assert_eq!((keys, address.app.expose()), (expected.to_vec(), "live"), "{app:?} {name:?}");
        }
    }

    #[test]
    fn a_key_is_never_logged_as_the_application() {
        // With the key in its place, and with something else there.
        for (app, name) in [("KEYKEYKEYKEY", "KEYKEYKEYKEY"), ("KEYKEYKEYKEY", "x"), ("KEYKEYKEYKEY/x", "y")] {
            assert_eq!(Address::read(app, name).app.to_string(), "{KEY...KEY}");
        }
        assert_eq!(Address::read("app\u{7}/x", "KEY").app.expose(), "app");
    }

    proptest! {
        #[test]
        fn any_text_gives_short_keys(app in ".{0,40}", name in ".{0,40}") {
            let address = Address::read(&app, &name);
            prop_assert!(address.keys.len() <= 4);
            prop_assert!(address.keys.iter().all(|key| !key.is_empty() && key.expose().len() <= MAX_KEY));
        }
    }
}
