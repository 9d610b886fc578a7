//! Which of the machine's addresses to receive at, and which to name in answers. Pure but for [`of_this_machine`].

use super::config::{EndpointConfig, Filter};
use crate::Error;
use std::collections::HashMap;
use std::net::IpAddr;

/// An address of this machine and the interface it is on.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) interface: String,
    pub(super) ip: IpAddr,
}

/// The addresses of this machine's interfaces.
pub fn machine_addresses() -> Vec<IpAddr> {
    of_this_machine().into_iter().map(|local| local.ip).collect()
}

/// All addresses of this machine's interfaces.
pub(super) fn of_this_machine() -> Vec<Local> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|e| {
        tracing::warn!(error = %e, "the machine's addresses can't be listed");
        Vec::new()
    });
    interfaces.into_iter().map(|i| Local { ip: i.ip(), interface: i.name }).collect()
}

/// Those to open ports on.
pub(super) fn to_bind(config: &EndpointConfig, locals: &[Local]) -> Result<Vec<IpAddr>, Error> {
    let bind = config.bind_address;
    if !bind.is_unspecified() {
        return Ok(vec![bind]);
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for Local { interface, ip } in locals {
        let usable = !link_local(*ip)
            && !ip.is_unspecified()
            && (config.loopback || !ip.is_loopback())
            && (bind.is_ipv6() || ip.is_ipv4())
            && allowed(&config.interfaces, |name| name == interface)
            && allowed(&config.networks, |(net, bits)| model::in_range(*ip, *net, *bits));
        if usable && !ips.contains(ip) {
            ips.push(*ip);
        }
    }
    if ips.is_empty() {
        let why = "there are only loopback ones (enable_loopback_candidate lets them be used), or the interface and IP filters leave none";
        return Err(Error::NoAddress(why.into()));
    }
    Ok(ips)
}

/// The addresses to name for one that ports are open on.
pub(super) fn to_name(config: &EndpointConfig, local: IpAddr, external: &HashMap<IpAddr, IpAddr>) -> Vec<IpAddr> {
    let node = match local {
        IpAddr::V4(_) => config.node_ipv4.map(IpAddr::V4),
        IpAddr::V6(_) => config.node_ipv6.map(IpAddr::V6),
    };
    // Clients on this machine reach the loopback address as it is.
    if local.is_loopback() {
        return vec![local];
    }
    if let Some(node) = node {
        return if config.advertise_internal_ip && node != local { vec![node, local] } else { vec![node] };
    }
    if !config.use_external_ip && !config.external_ip_only {
        return vec![local];
    }
    match external.get(&local) {
        Some(seen) if *seen == local => vec![local],
        Some(seen) if config.advertise_internal_ip && !config.external_ip_only => vec![*seen, local],
        Some(seen) => vec![*seen],
        None if config.external_ip_only => Vec::new(),
        None => vec![local],
    }
}

fn allowed<T>(filter: &Filter<T>, is: impl Fn(&T) -> bool) -> bool {
    !filter.excludes.iter().any(&is) && (filter.includes.is_empty() || filter.includes.iter().any(&is))
}

/// IPv6 link-local addresses need a zone that a candidate can't carry; IPv4's lead nowhere either.
fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locals() -> Vec<Local> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::5"),
            ("docker0", "172.17.0.1"),
        ]
        .map(|(interface, ip)| Local { interface: interface.into(), ip: ip.parse().unwrap() })
        .into()
    }

    fn bound(config: &EndpointConfig) -> Vec<String> {
        to_bind(config, &locals()).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn filters_and_families() {
        let mut config = EndpointConfig::default();
        assert_eq!(bound(&config), ["10.0.0.5", "fd00::5", "172.17.0.1"]);
        config.interfaces.excludes.push("docker0".into());
        assert_eq!(bound(&config), ["10.0.0.5", "fd00::5"]);
        config.bind_address = "0.0.0.0".parse().unwrap();
        assert_eq!(bound(&config), ["10.0.0.5"]);
        config.loopback = true;
        config.networks.includes = vec![("127.0.0.0".parse().unwrap(), 8)];
        assert_eq!(bound(&config), ["127.0.0.1"]);
        config.bind_address = "192.0.2.1".parse().unwrap();
        assert_eq!(bound(&config), ["192.0.2.1"]);
        config = EndpointConfig {
            interfaces: Filter { includes: vec!["wlan0".into()], excludes: vec![] },
            ..Default::default()
        };
        assert!(to_bind(&config, &locals()).is_err());
    }

    #[test]
    fn named_addresses_follow_the_config() {
        let local: IpAddr = "10.0.0.5".parse().unwrap();
        let seen: IpAddr = "198.51.100.7".parse().unwrap();
        let external = HashMap::from([(local, seen)]);
        let mut config = EndpointConfig::default();
        assert_eq!(to_name(&config, local, &external), [local]);
        config.use_external_ip = true;
        assert_eq!(to_name(&config, local, &external), [seen]);
        assert_eq!(to_name(&config, local, &HashMap::new()), [local]);
        config.advertise_internal_ip = true;
        assert_eq!(to_name(&config, local, &external), [seen, local]);
        config.external_ip_only = true;
        assert_eq!(to_name(&config, local, &external), [seen]);
        assert!(to_name(&config, local, &HashMap::new()).is_empty());
        config.node_ipv4 = Some("203.0.113.1".parse().unwrap());
        config.advertise_internal_ip = false;
        assert_eq!(to_name(&config, local, &external), [IpAddr::from([203, 0, 113, 1])]);
        assert_eq!(to_name(&config, "127.0.0.1".parse().unwrap(), &external), [IpAddr::from([127, 0, 0, 1])]);
    }
}
