//! The `redis` section: its types, and how it is read.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use model::Secret;
use psrpc::redis::Address;

use super::section::{Known, Located, Section};

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
    /// The timeout for connecting; `None` for the client's own.
    pub dial_timeout: Option<Duration>,
    /// The timeout for an answer; `None` for the client's own.
    pub read_timeout: Option<Duration>,
    /// The timeout for sending; `None` for the client's own.
    pub write_timeout: Option<Duration>,
}

/// The kinds of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Single(Address),
    /// A master found through sentinels.
    Sentinel {
        /// The name of the master at the sentinels.
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
        /// How many redirections of one command are followed.
        max_redirects: u32,
    },
}

/// TLS towards Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Trust any certificate. For tests only.
    pub insecure: bool,
    /// The server name to ask for and to verify, if it is not the host.
    pub server_name: Option<String>,
    /// Root certificates in place of the system's, PEM.
    pub ca_cert_file: Option<PathBuf>,
    /// Our own certificate and private key.
    pub client: Option<ClientCertificate>,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

/// The default for redirections in a cluster (as LiveKit).
const DEFAULT_MAX_REDIRECTS: i64 = 2;
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl RedisConfig {
    /// One server at this address, no password, no TLS.
    pub fn single(address: Address) -> Self {
        Self {
            topology: RedisTopology::Single(address),
            username: String::new(),
            password: Secret::default(),
            db: 0,
            tls: None,
            dial_timeout: None,
            read_timeout: None,
            write_timeout: None,
        }
    }
}

/// Reads the `redis` section. After a fault the result is `None` or not used.
pub(super) fn read(mut section: Section<'_, '_>, known: &mut Vec<Known>) -> Option<RedisConfig> {
    let topology = topology(&mut section);
    let username = section.text("username").map(|t| t.value).unwrap_or_default();
    let password = Secret::new(section.text("password").map(|t| t.value).unwrap_or_default());
    let db = database(&mut section, topology.as_ref());
    let tls = tls(&mut section, known);
    let dial_timeout = section.milliseconds("dial_timeout");
    let read_timeout = section.milliseconds("read_timeout");
    let write_timeout = section.milliseconds("write_timeout");
    section.go_duration("pool_timeout");
    section.int("pool_size", 0..=i64::from(u32::MAX));
    for key in ["pool_timeout", "pool_size"] {
        if let Some(at) = section.at_set(key) {
            section.warn(at, key, "has no effect: there is no pool of connections");
        }
    }
    known.push(section.finish());
    let topology = topology?;
    Some(RedisConfig { topology, username, password, db, tls, dial_timeout, read_timeout, write_timeout })
}

/// Reads which kind it is. Of several, sentinels take precedence over a cluster, and a cluster over a single address, as in LiveKit.
fn topology(section: &mut Section<'_, '_>) -> Option<RedisTopology> {
    let sentinels = section.list("sentinel_addresses", |text| address(text, SENTINEL_PORT));
    let master = section.text("sentinel_master_name");
    let username = section.text("sentinel_username").map(|t| t.value).unwrap_or_default();
    let password = Secret::new(section.text("sentinel_password").map(|t| t.value).unwrap_or_default());
    let cluster = section.list("cluster_addresses", |text| address(text, REDIS_PORT));
    let redirects = section.int("max_redirects", 0..=16).map_or(DEFAULT_MAX_REDIRECTS, |r| r.value);
    let single_given = section.has("address");
    let single = section.parsed("address", |text| address(text, REDIS_PORT));
    let (sentinel_given, cluster_given) = (section.has("sentinel_addresses"), section.has("cluster_addresses"));
    warn_of_several(section, single.as_ref(), sentinel_given, cluster_given);
    if sentinel_given {
        let Some(master) = master else {
            let text = "is missing: the name that the sentinels know the master by, often mymaster";
            section.report().fault(section.at(), &section.full("sentinel_master_name"), text);
            return None;
        };
        return Some(RedisTopology::Sentinel { master_name: master.value, addresses: sentinels, username, password });
    }
    if cluster_given {
        let max_redirects = u32::try_from(redirects).unwrap_or(0);
        return Some(RedisTopology::Cluster { addresses: cluster, max_redirects });
    }
    if !single_given {
        let text = if section.at().is_none() {
            "is missing: this service finds its work through the Redis that livekit-server uses, for example"
        } else {
            "address, sentinel_addresses or cluster_addresses is needed, for example"
        };
        let text = format!("{text}\n  redis:\n    address: localhost:6379");
        section.report().fault(section.at(), "redis", text);
    }
    single.map(|s| RedisTopology::Single(s.value))
}

fn warn_of_several(section: &Section<'_, '_>, single: Option<&Located<Address>>, sentinel: bool, cluster: bool) {
    if let Some(Located { at, .. }) = single.filter(|_| sentinel || cluster) {
        let used = if sentinel { "sentinel_addresses" } else { "cluster_addresses" };
        section.warn(*at, "address", format!("has no effect beside {used}"));
    } else if sentinel && cluster {
        let key = section.full("cluster_addresses");
        section.report().warn(section.at(), &key, "has no effect beside sentinel_addresses");
    }
}

fn database(section: &mut Section<'_, '_>, topology: Option<&RedisTopology>) -> u32 {
    // Redis itself bounds `databases` by an int.
    let Some(Located { value, at }) = section.int("db", 0..=i64::from(i32::MAX)) else { return 0 };
    if value != 0 && matches!(topology, Some(RedisTopology::Cluster { .. })) {
        section.warn(at, "db", "has no effect in a cluster, which has one database");
        return 0;
    }
    u32::try_from(value).unwrap_or(0)
}

fn tls(section: &mut Section<'_, '_>, known: &mut Vec<Known>) -> Option<RedisTls> {
    let plain = section.flag("use_tls");
    let mut block = section.section("tls");
    let enabled = block.flag("enabled");
    let insecure = block.flag("insecure");
    let server_name = block.text("server_name").map(|t| t.value);
    let ca_cert_file = block.file("ca_cert_file").map(|f| f.value);
    let (cert, key) = (block.file("client_cert_file"), block.file("client_key_file"));
    for (present, missing, name) in
        [(&cert, "client_key_file", "client_cert_file"), (&key, "client_cert_file", "client_key_file")]
    {
        if let (Some(Located { at, .. }), false) = (present, block.has(missing)) {
            block.fault(*at, name, format!("needs {missing} beside it"));
        }
    }
    let used = insecure || server_name.is_some() || ca_cert_file.is_some() || cert.is_some() || key.is_some();
    if let (Some(at), true, false) = (block.at(), used, enabled) {
        block.report().warn(Some(at), "redis.tls", "has no effect without enabled: true");
    }
    known.push(block.finish());
    if !enabled {
        return plain.then(RedisTls::default);
    }
    let client = cert.zip(key).map(|(c, k)| ClientCertificate { cert_file: c.value, key_file: k.value });
    Some(RedisTls { insecure, server_name, ca_cert_file, client })
}

/// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. The error does not repeat the text: a URL may hold a password.
fn address(text: &str, default_port: u16) -> Result<Address, String> {
    let wrong = || {
        "is not host:port, such as localhost:6379 (not a URL: user, password and TLS have keys of their own)".to_owned()
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(wrong)?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { Ok(default_port) } else { port.parse::<u16>() };
    let port = port.ok().filter(|p| *p != 0).ok_or_else(wrong)?;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong());
    }
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("localhost:6379", "localhost", 6379),
            ("redis", "redis", 6379),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:6380", "::1", 6380),
            ("[::1]", "::1", 6379),
        ] {
            assert_eq!(address(text, REDIS_PORT), Ok(Address { host: host.to_owned(), port }), "{text}");
        }
        for text in [
            "",
            ":6379",
            "host:0",
            "host:65536",
            "host:x",
            "redis://:pw@host:1",
            "::1",
            "[::1",
            "[x]:1",
            "a b:1",
            "[::1]x",
        ] {
            let error = address(text, REDIS_PORT).unwrap_err();
            assert!(!error.contains("pw"), "{error}");
        }
        assert_eq!(address("[::1]:6380", 1).unwrap().to_string(), "[::1]:6380");
        assert_eq!(address("redis", 1).unwrap().to_string(), "redis:1");
    }
}
