//! The `redis` section of the configuration, as the bus wants it.

use crate::config::{RedisConfig, RedisTls, RedisTopology};
use model::Secret;
use psrpc::redis::{Config, Password, Tls, Topology};

impl RedisConfig {
    pub(super) fn to_psrpc(&self) -> Config {
        let mut to = Config::new(topology(&self.topology));
        to.username.clone_from(&self.username);
        to.password = password(&self.password);
        to.db = self.db.into();
        to.tls = self.tls.as_ref().map(tls);
        if let Some(timeout) = self.dial_timeout {
            to.dial_timeout = timeout;
        }
        // A command is sent and answered within one limit; two limits in the configuration add up.
        if self.read_timeout.is_some() || self.write_timeout.is_some() {
            to.reply_timeout = self.read_timeout.unwrap_or_default() + self.write_timeout.unwrap_or_default();
        }
        to
    }
}

fn topology(from: &RedisTopology) -> Topology {
    match from {
        RedisTopology::Single(at) => Topology::Single { address: at.clone() },
        RedisTopology::Sentinel { master_name, addresses, username, password: secret } => Topology::Sentinel {
            master_name: master_name.clone(),
            addresses: addresses.clone(),
            username: username.clone(),
            password: password(secret),
        },
        RedisTopology::Cluster { addresses, max_redirects } => Topology::Cluster {
            addresses: addresses.clone(),
            max_redirects: u8::try_from(*max_redirects).unwrap_or(u8::MAX),
        },
    }
}

fn tls(from: &RedisTls) -> Tls {
    Tls {
        insecure: from.insecure,
        server_name: from.server_name.clone().unwrap_or_default(),
        ca_cert_file: from.ca_cert_file.clone(),
        client_cert_file: from.client.as_ref().map(|c| c.cert_file.clone()),
        client_key_file: from.client.as_ref().map(|c| c.key_file.clone()),
    }
}

fn password(from: &Secret) -> Password {
    Password::new(from.expose())
}
