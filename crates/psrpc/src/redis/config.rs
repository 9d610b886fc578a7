//! How to reach Redis: the configuration of the bus.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach Redis. Prints without its passwords; `Display` names it for people.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which servers.
    pub topology: Topology,
    /// The ACL user; empty for the default one.
    pub username: String,
    /// Empty for none.
    pub password: Password,
    /// The database, of which only locks and hashes know: channels are in none. Ignored in a cluster, which has one.
    pub db: i64,
    /// Encryption, also of the connections to sentinels.
    pub tls: Option<Tls>,
    /// How long connecting to one server may take, to the end of authentication.
    pub dial_timeout: Duration,
    /// How long any one reply may take, the sending of its command included; after that the connection counts as broken.
    pub reply_timeout: Duration,
}

/// Which servers.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Single {
        /// Where it is.
        address: Address,
    },
    /// The master that sentinels name.
    Sentinel {
        /// Its name at the sentinels.
        master_name: String,
        /// The sentinels, asked in this order.
        addresses: Vec<Address>,
        /// The sentinels' own ACL user; empty for the default one.
        username: String,
        /// The sentinels' own password; empty for none.
        password: Password,
    },
    /// Any node of a cluster.
    Cluster {
        /// Some of its nodes; others are learnt from them.
        addresses: Vec<Address>,
        /// How many redirections to follow for one command.
        max_redirects: u8,
    },
}

/// How to encrypt. Files are in PEM format and read at each connecting, so that renewed ones are taken up.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Accept any certificate.
    pub insecure: bool,
    /// The name to expect in the certificate, in place of the address's host; empty for that host.
    pub server_name: String,
    /// Authorities to trust in place of the system's.
    pub ca_cert_file: Option<PathBuf>,
    /// Our own certificate, for servers that ask for one.
    pub client_cert_file: Option<PathBuf>,
    /// The key to it.
    pub client_key_file: Option<PathBuf>,
}

/// A password that does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "{...}" })
    }
}

/// A host, by name or number, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Redis' own port, for addresses that name none.
const DEFAULT_PORT: u16 = 6379;

impl std::str::FromStr for Address {
    type Err = ConfigError;

    /// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Address(text.to_owned());
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(bad)?) })
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '[' | ']')) {
            return Err(bad());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// The node that a redirection from here names: `host:port`, or `:port` for this host. Redis writes IPv6 without brackets.
    pub(super) fn redirected(&self, to: &str) -> Option<Self> {
        let (host, port) = to.rsplit_once(':')?;
        let host = if host.is_empty() { &self.host } else { host.trim_matches(['[', ']']) };
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// Why a configuration can never work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not `host:port`. The text itself, which may be a URL with a password in it, is kept out of the message.
    #[error("not a Redis address: write HOST:PORT")]
    Address(String),
    /// No address at all.
    #[error("no Redis address is given")]
    NoAddress,
    /// A sentinel set-up without the master's name.
    #[error("the name of the sentinels' master is not given")]
    NoMasterName,
    /// A file of the TLS settings can't be used.
    #[error("{key} ({}): {reason}", path.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS settings contradict each other or the system.
    #[error("TLS for Redis: {0}")]
    Tls(String),
}

impl Config {
    /// One server, with neither password nor encryption.
    pub fn single(address: Address) -> Self {
        Self::new(Topology::Single { address })
    }

    /// These servers, with neither password nor encryption.
    pub fn new(topology: Topology) -> Self {
        Self {
            topology,
            username: String::new(),
            password: Password::default(),
            db: 0,
            tls: None,
            // Loopback and data centre answer in milliseconds; a host that is gone does not answer at all.
            dial_timeout: Duration::from_secs(2),
            // Redis answers within a millisecond; pauses of a second are seen when a virtual machine is moved or a large key is
            // deleted. Less than the 3 s of a call, so that the call ends with the true reason.
            reply_timeout: Duration::from_secs(2),
        }
    }

    /// Finds what can never work, but for TLS.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.topology {
            Topology::Single { .. } => {}
            Topology::Sentinel { master_name, .. } if master_name.is_empty() => return Err(ConfigError::NoMasterName),
            Topology::Sentinel { addresses, .. } | Topology::Cluster { addresses, .. } if addresses.is_empty() => {
                return Err(ConfigError::NoAddress);
            }
            Topology::Sentinel { .. } | Topology::Cluster { .. } => {}
        }
        Ok(())
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster { .. })
    }

    pub(super) fn max_redirects(&self) -> u8 {
        match self.topology {
            Topology::Cluster { max_redirects, .. } => max_redirects,
            _ => 0,
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, addresses: &[Address]| {
            for (i, address) in addresses.iter().enumerate() {
                write!(f, "{}{address}", if i > 0 { ", " } else { "" })?;
            }
            Ok(())
        };
        match &self.topology {
            Topology::Single { address } => write!(f, "Redis at {address}"),
            Topology::Sentinel { master_name, addresses, .. } => {
                write!(f, "Redis \"{master_name}\" of the sentinels at ")?;
                list(f, addresses)
            }
            Topology::Cluster { addresses, .. } => {
                f.write_str("Redis cluster at ")?;
                list(f, addresses)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        assert_eq!("redis:6380".parse::<Address>().unwrap(), address("redis", 6380));
        assert_eq!("redis".parse::<Address>().unwrap(), address("redis", 6379));
        assert_eq!("[::1]:7000".parse::<Address>().unwrap(), address("::1", 7000));
        assert_eq!("[::1]".parse::<Address>().unwrap(), address("::1", 6379));
        assert_eq!("fe80::2".parse::<Address>().unwrap(), address("fe80::2", 6379));
        for bad in ["", ":1", "redis:", "redis:x", "redis:70000", "redis://h:1", "user@h:1", "[::1", "[::1]1", "a b:1"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn redirections_are_relative_to_the_node() {
        let here = address("10.0.0.1", 7000);
        assert_eq!(here.redirected("10.0.0.2:7001"), Some(address("10.0.0.2", 7001)));
        assert_eq!(here.redirected(":7001"), Some(address("10.0.0.1", 7001)));
        assert_eq!(here.redirected("::1:7001"), Some(address("::1", 7001)));
        assert_eq!(here.redirected("nonsense"), None);
        assert_eq!(here.redirected("?:99999"), None);
    }

    #[test]
    fn passwords_do_not_print() {
        let mut config = Config::single(address("h", 1));
        config.password = Password::new("hunter2");
        config.topology = Topology::Sentinel {
            master_name: "m".into(),
            addresses: vec![address("a", 1), address("::1", 2)],
            username: String::new(),
            password: Password::new("sesame"),
        };
        let all = format!("{config:?} {config}");
        assert!(!all.contains("hunter2") && !all.contains("sesame"), "{all}");
        assert_eq!(config.to_string(), "Redis \"m\" of the sentinels at a:1, [::1]:2");
        let error = "redis://:hunter2@h".parse::<Address>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn addresses_survive_printing(host in "[a-z0-9.-]{1,20}", port in any::<u16>()) {
            let a = Address { host, port };
            prop_assert_eq!(a.to_string().parse::<Address>().unwrap(), a);
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".*") {
            let _ = text.parse::<Address>();
            let _ = address("h", 1).redirected(&text);
        }
    }
}
