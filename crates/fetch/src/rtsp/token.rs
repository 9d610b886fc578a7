//! How a relay knows its own client: by a word that only that was told. It stands behind the client's name (`User-Agent`, RFC 2326
//! §12.41), which it sends with each request, and goes no further than the relay.

use super::Request;
use super::frames::{Frames, Piece, field, value};
use subtle::ConstantTimeEq;

/// See the module.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// From random bits.
    pub fn new(random: u128) -> Self {
        Self(format!("relay/{random:032x}"))
    }

    /// The name of a client that shows it.
    pub fn shown_by(&self, name: &str) -> String {
        format!("{name} {}", self.0)
    }

    /// Whether these bytes of a new connection begin with a request that shows it; `None` if more are needed.
    pub fn is_shown(&self, mut bytes: &[u8]) -> Option<bool> {
        match Frames::default().next(&mut bytes) {
            Ok(None) => None,
            Ok(Some(Piece::Head(head))) if Request::read(&String::from_utf8_lossy(&head)).is_some() => {
                let name = value(&head, "user-agent").unwrap_or_default();
                let shown = name.rsplit(' ').next().unwrap_or_default();
                Some(shown.as_bytes().ct_eq(self.0.as_bytes()).into())
            }
            _ => Some(false),
        }
    }

    /// A header line without it.
    pub(super) fn removed(&self, line: String) -> String {
        match field(&line, "user-agent").and_then(|name| name.strip_suffix(&self.0)).map(str::trim_end) {
            Some(name) => format!("User-Agent: {name}"),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(name: &str) -> String {
        format!("OPTIONS rtsp://127.0.0.1:1/x RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: {name}\r\n\r\n")
    }

    #[test]
    fn only_who_was_told_shows_it() {
        let (token, other) = (Token::new(7), Token::new(8));
        let shown = request(&token.shown_by("GStreamer/1.22"));
        for end in 1..shown.len() {
            assert_eq!(token.is_shown(&shown.as_bytes()[..end]), None);
        }
        assert_eq!(token.is_shown(shown.as_bytes()), Some(true));
        assert_eq!(token.is_shown(request(&other.shown_by("GStreamer/1.22")).as_bytes()), Some(false));
        let without = "OPTIONS rtsp://127.0.0.1:1/x RTSP/1.0\r\nCSeq: 1\r\n\r\n";
        for stranger in [without, "\r\n", "$\0\0\x01x", "GET / HTTP/1.1\r\n\r\n", &request("")] {
            assert_eq!(token.is_shown(stranger.as_bytes()), Some(false), "{stranger:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn the_name_stays() {
        let token = Token::new(u128::MAX);
        assert_eq!(token.removed(format!("user-agent: {}", token.shown_by("a b"))), "User-Agent: a b");
        assert_eq!(token.removed("User-Agent: a b".into()), "User-Agent: a b");
        assert_eq!(token.removed(format!("Session: {}", token.0)), format!("Session: {}", token.0));
    }

    proptest! {
        /// Nothing that a stranger sends is taken for it, and a decision stays with more bytes.
        #[test]
        fn strangers_stay_strangers(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let token = Token::new(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
            let whole = token.is_shown(&bytes);
            prop_assert_ne!(whole, Some(true));
            let early = token.is_shown(&bytes[..cut.min(bytes.len())]);
            prop_assert!(early.is_none() || early == whole);
        }
    }
}
