//! What it takes to pull a source: its address and what it may cost. Made by the service, carried out by a child.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Hosts and addresses that must, or must not, be pulled from. `allow` goes before `deny`, and both before the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullGuard {
    /// Allowed whatever else is said.
    pub allow: Vec<HostRule>,
    /// Refused.
    pub deny: Vec<HostRule>,
    /// Refuses loopback and private ranges.
    pub refuse_private: bool,
}

/// One line of a list of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRule {
    /// This very name, lower case.
    Host(String),
    /// Every name below this one, lower case; written with a leading `*.`.
    Below(String),
    /// Every address that shares so many leading bits with this one.
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

/// What a pull may cost and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLimits {
    /// How long it may play.
    pub play_time: Option<Duration>,
    /// How much may be fetched, in bytes.
    pub bytes: Option<u64>,
    /// How large a file may say it is, in bytes.
    pub file_size: Option<u64>,
    /// How much of a file may lie on disk, where its format wants its end first and its server gives no ranges, in bytes.
    pub temporary: u64,
    /// How long a server may take to be reached, to answer, and to go on.
    pub timeout: Duration,
    /// How long a live source that broke is tried again.
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
