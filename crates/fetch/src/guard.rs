//! The guard: which hosts a pull may connect to. It looks names up itself, so that every address that is connected to was checked.

use crate::Error;
use model::{HostRule, PullGuard};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// The guard's decision about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be connected to.
    Allowed,
    /// It may not be connected to, for this reason.
    Refused(&'static str),
}

/// Metadata services, at which clouds hand out credentials, besides those at link-local addresses: AWS and Google over IPv6,
/// Alibaba, Oracle, Azure.
const METADATA: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

const DENIED: &str = "it is on this server's list of hosts to refuse";
const PRIVATE: &str = "it is a private or loopback address, which this server refuses";

fn in_range(ip: IpAddr, range: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(bits));
        shift >= width || a >> shift == b >> shift
    };
    match (ip, range) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

/// The IPv4 address inside an IPv6 address: mapped, compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => {
            Some(v4(a, b))
        }
        // Local-use NAT64 (RFC 8215), with the usual prefix length of 96 bits.
        [0x64, 0xff9b, 1, .., a, b] => Some(v4(a, b)),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => Some(v4(a, b)),
        [0x2002, a, b, ..] => Some(v4(a, b)),
        _ => None,
    }
}

/// Decides about an address: by the lists first, then by its kind.
pub fn judge(guard: &PullGuard, ip: IpAddr) -> Verdict {
    let plain = match ip {
        IpAddr::V6(v6) => embedded(v6).map_or(ip, IpAddr::V4),
        v4 => v4,
    };
    let matches = |rules: &[HostRule]| {
        rules.iter().any(|rule| match rule {
            HostRule::Range(range, bits) => in_range(ip, *range, *bits) || in_range(plain, *range, *bits),
            _ => false,
        })
    };
    if matches(&guard.allow) {
        return Verdict::Allowed;
    }
    if matches(&guard.deny) {
        return Verdict::Refused(DENIED);
    }
    by_kind(plain, guard.refuse_private)
}

fn by_kind(ip: IpAddr, refuse_private: bool) -> Verdict {
    let (link_local, multicast, private) = match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            // 0.0.0.0/8 reaches this machine itself; 100.64/10 is for carrier-grade NAT (RFC 6598), 198.18/15 for benchmarks
            // (RFC 2544), 192.0.0/24 for IETF protocol assignments (RFC 6890).
            let special = matches!((a, b, c), (0, ..) | (100, 64..128, _) | (198, 18 | 19, _) | (192, 0, 0));
            let private = v4.is_private() || v4.is_loopback() || special;
            (v4.is_link_local(), v4.is_multicast() || v4.is_broadcast() || a >= 240, private)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            let private =
                v6.is_loopback() || v6.is_unspecified() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0;
            (first & 0xffc0 == 0xfe80, v6.is_multicast(), private)
        }
    };
    if METADATA.contains(&ip) {
        Verdict::Refused("it is where clouds keep credentials")
    } else if link_local {
        Verdict::Refused("it is a link-local address")
    } else if multicast {
        Verdict::Refused("it is not the address of a single host")
    } else if private && refuse_private {
        Verdict::Refused(PRIVATE)
    } else {
        Verdict::Allowed
    }
}

/// What the lists say about a name, before it is looked up. `Some(true)` allows all of its addresses.
fn by_name(guard: &PullGuard, host: &str) -> Option<bool> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let matches = |rules: &[HostRule]| {
        rules.iter().any(|rule| match rule {
            HostRule::Host(name) => *name == host,
            HostRule::Below(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            HostRule::Range(..) => false,
        })
    };
    if matches(&guard.allow) {
        Some(true)
    } else if matches(&guard.deny) {
        Some(false)
    } else {
        None
    }
}

/// Checks a host without looking it up.
///
/// # Errors
/// [`Error::Denied`].
pub fn check_host(guard: &PullGuard, host: &str) -> Result<(), Error> {
    let denied = |why: &str| Err(Error::Denied { host: host.to_owned(), why: why.to_owned() });
    match (by_name(guard, host), host.parse::<IpAddr>()) {
        (Some(true), _) => Ok(()),
        (Some(false), _) => denied(DENIED),
        (None, Ok(ip)) => match judge(guard, ip) {
            Verdict::Allowed => Ok(()),
            Verdict::Refused(why) => denied(why),
        },
        (None, Err(_)) => Ok(()),
    }
}

/// Checks whether a port may be opened here for a source to connect to. A server that refuses private addresses has strangers as
/// users, and those may not open ports.
///
/// # Errors
/// [`Error::Denied`].
pub fn guard_listener(guard: &PullGuard, host: &str) -> Result<(), Error> {
    if guard.refuse_private && by_name(guard, host) != Some(true) && !listed(&guard.allow, host) {
        let why = "this server opens no ports for its users".to_owned();
        return Err(Error::Denied { host: host.to_owned(), why });
    }
    Ok(())
}

fn listed(rules: &[HostRule], host: &str) -> bool {
    let Ok(ip) = host.parse::<IpAddr>() else { return false };
    rules.iter().any(|rule| matches!(rule, HostRule::Range(range, bits) if in_range(ip, *range, *bits)))
}

/// Looks a host up and checks every address. One refused address refuses the whole name: whether an attacker's server is reached
/// must not depend on which of its addresses is tried.
///
/// # Errors
/// [`Error::Denied`], [`Error::Unresolved`], [`Error::LookupTimeout`].
pub fn resolve(guard: &PullGuard, host: &str, port: u16, within: Duration) -> Result<Vec<SocketAddr>, Error> {
    check_host(guard, host)?;
    let trusted = by_name(guard, host) == Some(true);
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => look_up(host, port, within)?,
    };
    judge_all(guard, host, found, trusted)
}

/// Checks the addresses of a host. Callers connect to these and do not look the name up again, so that a change of the name in
/// between (DNS rebinding) has no effect.
fn judge_all(guard: &PullGuard, host: &str, found: Vec<SocketAddr>, trusted: bool) -> Result<Vec<SocketAddr>, Error> {
    for address in found.iter().filter(|_| !trusted) {
        if let Verdict::Refused(why) = judge(guard, address.ip()) {
            let host =
                if host.parse::<IpAddr>().is_ok() { host.to_owned() } else { format!("{host} ({})", address.ip()) };
            return Err(Error::Denied { host, why: why.to_owned() });
        }
    }
    if found.is_empty() {
        return Err(Error::Unresolved(host.to_owned()));
    }
    Ok(found)
}

/// Looks a name up on a thread of its own, which is abandoned after `within`: the system's resolver takes up to a minute and more.
fn look_up(host: &str, port: u16, within: Duration) -> Result<Vec<SocketAddr>, Error> {
    let (found, receiver) = mpsc::sync_channel(1);
    let name = host.to_owned();
    std::thread::spawn(move || {
        let _ = found.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    });
    match receiver.recv_timeout(within) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(Error::Unresolved(host.to_owned())),
        Err(_) => Err(Error::LookupTimeout(host.to_owned(), within)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refused(guard: &PullGuard, text: &str) -> bool {
        judge(guard, ip(text)) != Verdict::Allowed
    }

    #[test]
    fn metadata_and_link_local_are_always_refused() {
        let guard = PullGuard::default();
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "192.0.0.192",
            "::ffff:0:169.254.169.254",
        ] {
            assert!(refused(&guard, text), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd12::1", "1.1.1.1", "2606:4700::1"] {
            assert!(!refused(&guard, text), "{text}");
        }
    }

    #[test]
    fn refuse_private_refuses_private_ranges() {
        let guard = PullGuard { refuse_private: true, ..PullGuard::default() };
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "0.0.0.0",
            "::",
            "::1",
            "fd12::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "100.64.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "198.19.0.1",
            "192.0.0.8",
        ] {
            assert!(refused(&guard, text), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1"] {
            assert!(!refused(&guard, text), "{text}");
        }
    }

    #[test]
    fn allow_goes_before_deny_and_deny_before_the_rest() {
        let guard = PullGuard {
            allow: vec![HostRule::Range(ip("10.1.0.0"), 16), HostRule::Host("trusted.example".into())],
            deny: vec![HostRule::Range(ip("10.0.0.0"), 8), HostRule::Below("evil.example".into())],
            refuse_private: true,
        };
        assert!(!refused(&guard, "10.1.2.3") && !refused(&guard, "::ffff:10.1.2.3"));
        assert!(refused(&guard, "10.2.2.3"));
        assert!(check_host(&guard, "a.EVIL.example.").is_err());
        assert!(check_host(&guard, "evil.example").is_ok() && check_host(&guard, "notevil.example").is_ok());
        assert!(check_host(&guard, "trusted.example").is_ok());
        assert!(check_host(&guard, "10.9.9.9").is_err());
        assert!(matches!(resolve(&guard, "127.0.0.1", 80, Duration::from_secs(5)), Err(Error::Denied { .. })));
        assert!(matches!(resolve(&guard, "localhost", 80, Duration::from_secs(5)), Err(Error::Denied { .. })));
    }

    #[test]
    fn one_refused_address_refuses_the_name() {
        let guard = PullGuard { refuse_private: true, ..PullGuard::default() };
        let of = |ips: &[&str], trusted| {
            judge_all(
                &guard,
                "name.example",
                ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect(),
                trusted,
            )
        };
        assert_eq!(of(&["1.1.1.1", "2606:4700::1"], false).unwrap().len(), 2);
        for ips in [["1.1.1.1", "127.0.0.1"], ["::ffff:10.0.0.1", "1.1.1.1"], ["2606:4700::1", "169.254.169.254"]] {
            let refused = of(&ips, false);
            assert!(
                matches!(&refused, Err(Error::Denied { host, .. }) if host.contains("name.example (")),
                "{refused:?}"
            );
            assert!(of(&ips, true).is_ok(), "a name on the allow list");
        }
        assert!(matches!(of(&[], false), Err(Error::Unresolved(_))));
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_like_its_ipv4(bits: u32, private: bool) {
            let guard = PullGuard { refuse_private: private, ..PullGuard::default() };
            let v4 = Ipv4Addr::from(bits);
            prop_assert_eq!(judge(&guard, IpAddr::V4(v4)), judge(&guard, IpAddr::V6(v4.to_ipv6_mapped())));
        }

        #[test]
        fn prefix_length_zero_holds_every_address(bits: u128, v4: u32) {
            prop_assert!(in_range(IpAddr::V6(bits.into()), ip("::"), 0));
            prop_assert!(in_range(IpAddr::V4(v4.into()), ip("0.0.0.0"), 0));
            prop_assert!(in_range(IpAddr::V4(v4.into()), IpAddr::V4(v4.into()), 32));
        }
    }
}
