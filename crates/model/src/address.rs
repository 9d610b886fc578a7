//! What an IP address leads to: the internet, a private network, this machine's neighbours, or something that is no peer at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Somebody on the internet.
    Public,
    /// A machine of a private network, or this one.
    Private,
    /// Wherever a tunnel or a translator near this machine leads it (Teredo, ISATAP, NAT64): perhaps the internet, and perhaps not.
    Tunnel,
    /// A neighbour on the link.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// No single host.
    Many,
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

impl AddressKind {
    /// That of an address. An IPv4 address inside an IPv6 address counts as itself.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => match (embedded_v4(v6), tunnelled_v4(v6)) {
                (Some(v4), _) => of_v4(v4),
                // Where the far end shows, it counts if it is worse.
                (None, Some(v4)) => match of_v4(v4) {
                    Self::Public => Self::Tunnel,
                    worse => worse,
                },
                (None, None) => of_v6(v6),
            },
        }
    }
}

fn of_v4(ip: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = ip.octets();
    // 0.0.0.0/8 reaches this machine itself; 100.64/10 is for carrier-grade NAT (RFC 6598), 198.18/15 for benchmarks (RFC 2544),
    // 192.0.0/24 for IETF protocol assignments (RFC 6890).
    let special = matches!((a, b, c), (0, ..) | (100, 64..128, _) | (198, 18 | 19, _) | (192, 0, 0));
    if METADATA.contains(&IpAddr::V4(ip)) {
        AddressKind::Metadata
    } else if ip.is_link_local() {
        AddressKind::LinkLocal
    } else if ip.is_multicast() || ip.is_broadcast() || a >= 240 {
        AddressKind::Many
    } else if ip.is_private() || ip.is_loopback() || special {
        AddressKind::Private
    } else {
        AddressKind::Public
    }
}

fn of_v6(ip: Ipv6Addr) -> AddressKind {
    let first = ip.segments()[0];
    if METADATA.contains(&IpAddr::V6(ip)) {
        AddressKind::Metadata
    } else if first & 0xffc0 == 0xfe80 {
        AddressKind::LinkLocal
    } else if ip.is_multicast() {
        AddressKind::Many
    } else if ip.is_loopback() || ip.is_unspecified() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 {
        AddressKind::Private
    } else {
        AddressKind::Public
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (RFC 2765) or 6to4 (RFC 3056).
pub fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => Some(v4(a, b)),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => Some(v4(a, b)),
        [0x2002, a, b, ..] => Some(v4(a, b)),
        _ => None,
    }
}

/// The IPv4 address at the far end of a tunnel or translator that an IPv6 address goes through: NAT64 (RFC 6052; RFC 8215 for local
/// use, with the usual prefix of 96 bits), Teredo (RFC 4380 §4, which hides the client's address by turning its bits over) and
/// ISATAP (RFC 5214 §6.1).
fn tunnelled_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x64, 0xff9b, 1, .., a, b] => Some(v4(a, b)),
        [0x2001, 0, .., a, b] => Some(v4(!a, !b)),
        [.., 0 | 0x200, 0x5efe, a, b] => Some(v4(a, b)),
        _ => None,
    }
}

/// Whether an address is in a network, whose prefix has so many bits.
pub fn in_range(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(bits));
        shift >= width || a >> shift == b >> shift
    };
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> AddressKind {
        AddressKind::of(text.parse().unwrap())
    }

    #[test]
    fn kinds() {
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2002:101:101::1", "::ffff:1.1.1.1"] {
            assert_eq!(kind(text), AddressKind::Public, "{text}");
        }
        for text in [
            "127.9.9.9",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "fd12::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert_eq!(kind(text), AddressKind::Private, "{text}");
        }
        assert_eq!(kind("::ffff:0:169.254.169.254"), AddressKind::LinkLocal);
        assert_eq!(kind("::ffff:100.100.100.200"), AddressKind::Metadata);
        assert_eq!(kind("ff02::1"), AddressKind::Many);
    }

    #[test]
    fn tunnels_are_not_the_internet() {
        // NAT64 of both kinds, Teredo, ISATAP with a global and a local interface id.
        for text in [
            "64:ff9b::101:101",
            "64:ff9b:1::101:101",
            "2001::1:fefe:fefe",
            "2606:4700::5efe:1.1.1.1",
            "2606:4700::200:5efe:101:101",
        ] {
            assert_eq!(kind(text), AddressKind::Tunnel, "{text}");
        }
        // 10.0.0.1 behind each; turned over it is f5ff:fffe.
        for text in [
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2001::1:f5ff:fffe",
            "2606:4700::5efe:10.0.0.1",
            "fd00::200:5efe:a00:1",
        ] {
            assert_eq!(kind(text), AddressKind::Private, "{text}");
        }
        assert_eq!(kind("64:ff9b::a9fe:a9fe"), AddressKind::LinkLocal);
    }

    proptest! {
        #[test]
        fn a_mapped_address_counts_as_its_ipv4(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            prop_assert_eq!(AddressKind::of(v4.into()), AddressKind::of(v4.to_ipv6_mapped().into()));
        }

        #[test]
        fn prefix_length_zero_holds_every_address(bits: u128, v4: u32) {
            prop_assert!(in_range(Ipv6Addr::from(bits).into(), "::".parse().unwrap(), 0));
            let v4 = IpAddr::from(Ipv4Addr::from(v4));
            prop_assert!(in_range(v4, "0.0.0.0".parse().unwrap(), 0) && in_range(v4, v4, 32));
        }
    }
}
