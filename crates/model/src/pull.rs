//! What a pull of a source may connect to, and its limits. Made by the service, kept by a demux worker.

use crate::Proxies;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The hosts and addresses that may be pulled from. `allow` takes precedence over `deny`, and both over `refuse_private`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullGuard {
    /// Always allowed.
    pub allow: Vec<HostRule>,
    /// Refused.
    pub deny: Vec<HostRule>,
    /// Whether loopback and private addresses are refused.
    pub refuse_private: bool,
    /// This machine's own addresses, also those on the internet: they count as private.
    pub own: Vec<IpAddr>,
    /// The proxies that HTTP goes by. What they reach is up to them: names are looked up there.
    pub proxies: Proxies,
}

/// One entry of a list of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRule {
    /// This name, in lower case.
    Host(String),
    /// Every name below this one, in lower case; written with a leading `*.`.
    Below(String),
    /// Every address of this network, with the length of its prefix in bits.
    Range(IpAddr, u8),
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Range(ip, bits) => write!(f, "{ip}/{bits}"),
        }
    }
}

/// The limits of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLimits {
    /// How long it may play; `None` for no limit.
    pub play_time: Option<Duration>,
    /// How many bytes may be fetched; `None` for no limit.
    pub bytes: Option<u64>,
    /// The largest length in bytes that a file may have; `None` for no limit.
    pub file_size: Option<u64>,
    /// How many bytes of a file may be put on disk, where its index is at its end and its server takes no range requests; 0
    /// for none.
    pub temporary: u64,
    /// How long a server may take to be reached, to answer, and to go on sending.
    pub timeout: Duration,
    /// How long a live source is tried again after it broke.
    pub reconnect: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self {
            play_time: None,
            bytes: None,
            file_size: None,
            temporary: 1 << 30,
            timeout: Duration::from_secs(10),
            reconnect: Duration::from_secs(30),
        }
    }
}

/// The text of a URL as people type it, made one by the standard: a password with characters that end it in a URL is escaped. Where a port
/// would have to stand, something else stands then. Of what can be read in two ways the standard's counts.
pub fn url_as_typed(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let no_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err());
    let bracketed = authority.starts_with('[');
    match rest.rsplit_once('@') {
        Some((login, after)) if no_port && !bracketed && !authority.contains('@') => {
            let escaped = login.replace('/', "%2F").replace('?', "%3F").replace('#', "%23").replace('@', "%40");
            format!("{scheme}://{escaped}@{after}").into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_logins_are_escaped() {
        for (typed, url) in [
            ("rtsp://admin:a/b#c@d?e@host:1/live", "rtsp://admin:a%2Fb%23c%40d%3Fe@host:1/live"),
            ("http://u:#1@h/", "http://u:%231@h/"),
        ] {
            assert_eq!(url_as_typed(typed), url);
        }
        for same in [
            "http://h/a@2x.png",
            "http://h:80/a@b",
            "http://u:p%2F@h/",
            "http://[::1]/@",
            "srt://h:9000?streamid=a@b",
            "@",
            "",
        ] {
            assert_eq!(url_as_typed(same), same);
        }
    }
}
