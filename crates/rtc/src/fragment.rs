//! SDP fragments (RFC 8840): what a WHIP client sends to trickle candidates or to restart ICE, and what we answer. Pure.
//!
//! Two forms are read: the bare fragment of the RFC, and the whole SDP around it that the Go ingress asks for.

use crate::Refusal;
use crate::offer::{Offer, candidates, credentials};
use std::fmt::Write as _;

/// Bytes of a fragment at most: a hundred candidates, thrice what anybody has.
pub const MAX_FRAGMENT: usize = 16 << 10;

/// A fragment, as far as it matters here: all media share one transport (BUNDLE).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The client's ICE user fragment and password, where it names them.
    pub credentials: Option<(String, String)>,
    /// `candidate:` lines that are of use to us.
    pub candidates: Vec<String>,
    /// It is a whole SDP.
    pub whole: bool,
}

impl Fragment {
    /// Reads a fragment of either form.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`].
    pub fn read(text: &str) -> Result<Self, Refusal> {
        let unreadable = |why: &str| Refusal::Unreadable(why.to_owned());
        if text.len() > MAX_FRAGMENT {
            return Err(unreadable("the fragment is too long"));
        }
        let lines: Vec<_> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        if lines.is_empty() {
            return Err(unreadable("the fragment is empty"));
        }
        if lines.iter().any(|l| l.as_bytes().get(1) != Some(&b'=') || !l.as_bytes()[0].is_ascii_lowercase()) {
            return Err(unreadable("a line of the fragment is not of the form x=value"));
        }
        let value = |name: &str| lines.iter().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        let credentials = match (value("a=ice-ufrag:"), value("a=ice-pwd:")) {
            (None, None) => None,
            (Some(ufrag), Some(pwd)) if credentials(&ufrag, &pwd) => Some((ufrag, pwd)),
            _ => return Err(unreadable("the fragment's ICE credentials are damaged")),
        };
        Ok(Self {
            credentials,
            candidates: candidates(lines.iter().filter_map(|l| l.strip_prefix("a=candidate:"))),
            whole: lines[0] == "v=0",
        })
    }

    /// What answers a restart: our new credentials and all our candidates, in the form that was asked in.
    pub(crate) fn answer(
        whole: bool,
        offer: &Offer,
        ice_lite: bool,
        ours: (&str, &str),
        candidates: &[String],
    ) -> String {
        let (ufrag, pwd) = ours;
        let mut s = String::new();
        if whole {
            s.push_str("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        }
        if ice_lite {
            s.push_str("a=ice-lite\r\n");
        }
        let taken = || offer.sections.iter().filter(|s| s.taken);
        let mids: Vec<_> = taken().map(|s| s.mid.as_str()).collect();
        let _ = write!(s, "a=group:BUNDLE {}\r\n", mids.join(" "));
        // All media lines share the first one's transport (RFC 8840 §4.4).
        for section in taken().take(if whole { usize::MAX } else { 1 }) {
            let _ = write!(s, "m={} 9 {}\r\n", section.kind, section.tail);
            if whole {
                s.push_str("c=IN IP4 0.0.0.0\r\n");
            }
            let _ = write!(s, "a=mid:{}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n", section.mid);
            s.extend(candidates.iter().map(|c| format!("a={c}\r\n")));
            s.push_str("a=end-of-candidates\r\n");
        }
        s
    }
}

#[cfg(test)]
mod tests;
