//! The guard: which hosts a pull may connect to. It looks names up itself, so that every address that is connected to was checked.

use crate::Error;
use model::{AddressKind, HostRule, PullGuard, embedded_v4, in_range};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
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

const DENIED: &str = "it is on this server's list of hosts to refuse";
const PRIVATE: &str = "it is a private or loopback address, which this server refuses";
const OWN: &str = "it is an address of this server, which it refuses";
const INWARDS: &str = "a server on the internet leads there, and it is a private address or one of this server";

/// Decides about an address: by the lists first, then by its kind. `inwards`: whoever named it is on the internet, and from there
/// nothing leads to a private address.
pub fn judge(guard: &PullGuard, ip: IpAddr, inwards: bool) -> Verdict {
    let plain = match ip {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(ip, IpAddr::V4),
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
    let own = guard.own.contains(&plain);
    match AddressKind::of(ip) {
        AddressKind::Metadata => Verdict::Refused("it is where clouds keep credentials"),
        AddressKind::LinkLocal => Verdict::Refused("it is a link-local address"),
        AddressKind::Many => Verdict::Refused("it is not the address of a single host"),
        AddressKind::Public if !own => Verdict::Allowed,
        _ if inwards => Verdict::Refused(INWARDS),
        AddressKind::Public if guard.refuse_private => Verdict::Refused(OWN),
        _ if guard.refuse_private => Verdict::Refused(PRIVATE),
        _ => Verdict::Allowed,
    }
}

/// Whether what comes from this address comes from the internet: it may be anybody's then. A tunnel's far end may be, too.
pub(crate) fn is_outside(ip: IpAddr) -> bool {
    matches!(AddressKind::of(ip), AddressKind::Public | AddressKind::Tunnel)
}

/// Whether an address is a private one that the configuration does not name: what its ports answer is nobody's business who only
/// writes URLs.
pub(crate) fn is_inside(guard: &PullGuard, host: &str, ip: IpAddr) -> bool {
    let strict = PullGuard { refuse_private: true, ..guard.clone() };
    by_name(guard, host) != Some(true) && judge(&strict, ip, false) != Verdict::Allowed
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
        (None, Ok(ip)) => match judge(guard, ip, false) {
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

/// Looks a host up and checks every address; `inwards` as for [`judge`]. One refused address refuses the whole name: whether an attacker's server is reached
/// must not depend on which of its addresses is tried.
///
/// # Errors
/// [`Error::Denied`], [`Error::Unresolved`], [`Error::LookupTimeout`].
pub fn resolve(
    guard: &PullGuard,
    host: &str,
    port: u16,
    inwards: bool,
    within: Duration,
) -> Result<Vec<SocketAddr>, Error> {
    check_host(guard, host)?;
    let trusted = by_name(guard, host) == Some(true);
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => look_up(host, port, within)?,
    };
    judge_all(guard, host, found, trusted, inwards)
}

/// Checks the addresses of a host. Callers connect to these and do not look the name up again, so that a change of the name in
/// between (DNS rebinding) has no effect.
fn judge_all(
    guard: &PullGuard,
    host: &str,
    found: Vec<SocketAddr>,
    trusted: bool,
    inwards: bool,
) -> Result<Vec<SocketAddr>, Error> {
    for address in found.iter().filter(|_| !trusted) {
        if let Verdict::Refused(why) = judge(guard, address.ip(), inwards) {
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
pub(crate) fn look_up(host: &str, port: u16, within: Duration) -> Result<Vec<SocketAddr>, Error> {
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
    use std::net::Ipv4Addr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refused(guard: &PullGuard, text: &str) -> bool {
        judge(guard, ip(text), false) != Verdict::Allowed
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
            "64:ff9b::101:101",
            "2001::1:fefe:fefe",
            "2606:4700::5efe:1.1.1.1",
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
            ..PullGuard::default()
        };
        assert!(!refused(&guard, "10.1.2.3") && !refused(&guard, "::ffff:10.1.2.3"));
        assert!(refused(&guard, "10.2.2.3"));
        assert!(check_host(&guard, "a.EVIL.example.").is_err());
        assert!(check_host(&guard, "evil.example").is_ok() && check_host(&guard, "notevil.example").is_ok());
        assert!(check_host(&guard, "trusted.example").is_ok());
        assert!(check_host(&guard, "10.9.9.9").is_err());
        assert!(matches!(resolve(&guard, "127.0.0.1", 80, false, Duration::from_secs(5)), Err(Error::Denied { .. })));
        assert!(matches!(resolve(&guard, "localhost", 80, false, Duration::from_secs(5)), Err(Error::Denied { .. })));
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
                false,
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

    #[test]
    fn this_machines_own_addresses_count_as_private() {
        let own = vec![ip("198.51.100.7"), ip("2606:4700::7")];
        let mut guard = PullGuard { own, ..PullGuard::default() };
        let of = |guard: &PullGuard, text, inwards| judge(guard, ip(text), inwards);
        for text in ["198.51.100.7", "2606:4700::7", "::ffff:198.51.100.7"] {
            assert_eq!(of(&guard, text, false), Verdict::Allowed, "{text}");
            assert_eq!(of(&guard, text, true), Verdict::Refused(INWARDS), "{text}");
        }
        guard.refuse_private = true;
        assert_eq!(of(&guard, "198.51.100.7", false), Verdict::Refused(OWN));
        assert_eq!(of(&guard, "198.51.100.8", true), Verdict::Allowed);
        guard.allow = vec![HostRule::Range(ip("198.51.100.7"), 32)];
        assert_eq!(of(&guard, "198.51.100.7", true), Verdict::Allowed);
    }

    #[test]
    fn nothing_leads_inwards() {
        let guard = PullGuard::default();
        for text in
            ["127.0.0.1", "10.0.0.1", "::1", "fd12::1", "64:ff9b::101:101", "2001::1:fefe:fefe", "::ffff:10.0.0.1"]
        {
            assert!(!refused(&guard, text), "{text}: a user may name it");
            assert_eq!(judge(&guard, ip(text), true), Verdict::Refused(INWARDS), "{text}");
        }
        assert_eq!(judge(&guard, ip("1.1.1.1"), true), Verdict::Allowed);
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_like_its_ipv4(bits: u32, private: bool, inwards: bool) {
            let guard = PullGuard { refuse_private: private, ..PullGuard::default() };
            let v4 = Ipv4Addr::from(bits);
            prop_assert_eq!(judge(&guard, v4.into(), inwards), judge(&guard, v4.to_ipv6_mapped().into(), inwards));
        }
    }
}
