//! The `redis` section: its types, and how it is read.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use model::Secret;

/// How to reach Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// One server, a sentinel group or a cluster.
    pub topology: RedisTopology,
    /// The ACL user; empty for the default user.
    pub username: String,
    /// Its password; empty for none.
    pub password: Secret,
    /// The database number; 0 in a cluster.
    pub db: u32,
    /// TLS; `None` for plain TCP.
    pub tls: Option<RedisTls>,
    /// For opening a connection; `None` leaves it to the client.
    pub dial_timeout: Option<Duration>,
    /// For an answer; `None` leaves it to the client.
    pub read_timeout: Option<Duration>,
    /// For sending; `None` leaves it to the client.
    pub write_timeout: Option<Duration>,
}

/// What kind of Redis it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Single(Address),
    /// A master found through sentinels.
    Sentinel {
        /// The name the sentinels know the master by.
        master_name: String,
        /// The sentinels; at least one.
        addresses: Vec<Address>,
        /// The sentinels' own user; empty for none.
        username: String,
        /// Its password; empty for none.
        password: Secret,
    },
    /// A cluster.
    Cluster {
        /// Some of its nodes; at least one.
        addresses: Vec<Address>,
        /// How many redirections to follow for one command.
        max_redirects: u32,
    },
}

/// TLS towards Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Trust any certificate. For tests only.
    pub insecure: bool,
    /// The name to ask for and to check, if it isn't the host's.
    pub server_name: Option<String>,
    /// Roots to trust in place of the system's, PEM.
    pub ca_cert_file: Option<PathBuf>,
    /// Our own certificate and private key, PEM.
    pub client: Option<ClientCertificate>,
}

/// A certificate to show, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

/// A host (name, IPv4, or IPv6 without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: String,
    /// The port; not 0.
    pub port: u16,
}

/// `host:port`, with brackets around IPv6.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
