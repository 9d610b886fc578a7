//! Whose request a proxy passes on: `X-Forwarded-For`, or `Forwarded` (RFC 7239), believed only from addresses that the
//! configuration trusts.
//!
//! Each proxy adds the address that its own connection came from at the end. So the list is read from its end, past further trusted
//! proxies, to the first address that is none: what stands before that is the client's own claim.

use crate::config::{ForwardedHeader, IpNet};
use axum::http::{HeaderMap, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Who is believed.
    pub trusted: Vec<IpNet>,
    /// The header that they write. The other one is not read: they would pass on what a client has put there.
    pub header: ForwardedHeader,
}

impl Proxies {
    /// Whether this address is a proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(address))
    }

    /// Whose a request is that came over a connection from `peer`. Its port is 0 where only an address is told.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let values: Vec<&[u8]> = headers.get_all(self.header.name()).iter().map(HeaderValue::as_bytes).collect();
        self.client_of(peer, &values)
    }

    /// The same, with the values of the header in their order.
    pub fn client_of(&self, peer: SocketAddr, values: &[&[u8]]) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let mut client = peer;
        for value in values.iter().rev() {
            let Ok(value) = std::str::from_utf8(value) else { return client };
            for element in split(value, ',').into_iter().rev() {
                let told = match self.header {
                    ForwardedHeader::XForwardedFor => node(element),
                    ForwardedHeader::Forwarded => forwarded_for(element),
                };
                // Something that is no address ("unknown", a name that hides one): nothing before it can be believed.
                let Some(told) = told else { return client };
                client = SocketAddr::new(told.ip().to_canonical(), told.port());
                if !self.trusts(client.ip()) {
                    return client;
                }
            }
        }
        client
    }
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<SocketAddr> {
    split(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| node(value))?
    })
}

/// An address: IPv4 or IPv6, with or without a port, brackets and quotes.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    address.or_else(|| text.parse().ok())
}

/// The parts of a list, whose quoted strings may hold the separator.
fn split(list: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&list[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(header: ForwardedHeader) -> Proxies {
        let net = |address: &str, prefix| IpNet { address: address.parse().unwrap(), prefix };
        Proxies { trusted: vec![net("10.0.0.0", 8), net("fd00::", 8)], header }
    }

    fn client(header: ForwardedHeader, peer: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header.name(), value.parse().unwrap());
        }
        proxies(header).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end() {
        let of = |peer, values: &[&str]| client(ForwardedHeader::XForwardedFor, peer, values);
        assert_eq!(of("10.0.0.1:5", &["192.0.2.7"]), "192.0.2.7:0");
        assert_eq!(of("10.0.0.1:5", &["203.0.113.9, 192.0.2.7"]), "192.0.2.7:0", "a client's own claim stands before");
        assert_eq!(of("10.0.0.1:5", &["203.0.113.9, 192.0.2.7", "10.0.0.2"]), "192.0.2.7:0", "two proxies");
        assert_eq!(of("10.0.0.1:5", &["192.0.2.7:4711"]), "192.0.2.7:4711");
        assert_eq!(of("10.0.0.1:5", &["2001:db8::7"]), "[2001:db8::7]:0");
        assert_eq!(of("10.0.0.1:5", &["::ffff:192.0.2.7"]), "192.0.2.7:0");
        assert_eq!(of("10.0.0.1:5", &[]), "10.0.0.1:5");
        assert_eq!(of("10.0.0.1:5", &["192.0.2.7, unknown"]), "10.0.0.1:5");
        assert_eq!(of("10.0.0.1:5", &["192.0.2.7, nonsense, 10.0.0.9"]), "10.0.0.9:0");
        assert_eq!(of("192.0.2.1:5", &["203.0.113.9"]), "192.0.2.1:5", "not from a proxy");
    }

    #[test]
    fn forwarded_as_in_the_rfc() {
        let of = |values: &[&str]| client(ForwardedHeader::Forwarded, "[fd00::1]:5", values);
        assert_eq!(of(&["for=192.0.2.7;proto=https;by=10.0.0.1"]), "192.0.2.7:0");
        assert_eq!(of(&["For=\"[2001:db8:cafe::17]:4711\""]), "[2001:db8:cafe::17]:4711");
        assert_eq!(of(&["for=203.0.113.9, for=192.0.2.7"]), "192.0.2.7:0");
        assert_eq!(of(&["by=\"a,b\";for=192.0.2.7, for=10.0.0.2"]), "192.0.2.7:0");
        assert_eq!(of(&["for=192.0.2.7, for=_hidden"]), "[fd00::1]:5");
        assert_eq!(of(&["proto=https"]), "[fd00::1]:5");
    }

    #[test]
    fn the_other_header_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.insert("forwarded", "for=203.0.113.9".parse().unwrap());
        headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        let peer = "10.0.0.1:5".parse().unwrap();
        assert_eq!(proxies(ForwardedHeader::XForwardedFor).client(peer, &headers).to_string(), "192.0.2.7:0");
        assert_eq!(proxies(ForwardedHeader::Forwarded).client(peer, &headers).to_string(), "203.0.113.9:0");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(value in "[ -~]{0,60}", forwarded: bool) {
            let header = if forwarded { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
            let mut headers = HeaderMap::new();
            headers.insert(header.name(), value.parse().unwrap());
            let outside: SocketAddr = "192.0.2.1:5".parse().unwrap();
            prop_assert_eq!(proxies(header).client(outside, &headers), outside);
            let _ = proxies(header).client("10.0.0.1:5".parse().unwrap(), &headers);
        }
    }
}
