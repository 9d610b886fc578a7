//! What load balancers say about whom they bring.

use service::config::{ForwardedHeader, IpNet};
use service::http::Proxies;
use service::inputs::proxy_header::{Fault, Source, rest_of_v2, v1, v2};
use std::net::{Ipv4Addr, SocketAddr};

/// A PROXY header of each version, and the two headers of HTTP. Promises: no panic; what is read of a line stands in it; a rest is as long
/// as announced, and never long; a header of somebody who is no proxy changes nothing.
pub fn proxy_headers(data: &[u8]) {
    if let Ok(Source::Client(client)) = v1(data) {
        let line = String::from_utf8_lossy(data);
        assert!(line.starts_with("PROXY TCP") && line.ends_with("\r\n"));
        assert!(line.split(' ').any(|word| word.parse() == Ok(client.ip())));
    }
    if let Some((fixed, rest)) = data.split_first_chunk::<4>() {
        match rest_of_v2(*fixed) {
            Ok(length) => assert!(length <= 4096 && fixed[0] >> 4 == 2),
            Err(fault) => assert!(matches!(fault, Fault::Malformed | Fault::TooLong)),
        }
        if let Ok(Source::Client(client)) = v2(*fixed, rest) {
            assert!(rest.len() >= if client.is_ipv4() { 12 } else { 36 });
        }
    }
    let trusted = vec![IpNet { address: Ipv4Addr::new(10, 0, 0, 0).into(), prefix: 8 }];
    let [proxy, outside] = ["10.0.0.1:5", "192.0.2.1:5"].map(|text| text.parse::<SocketAddr>().unwrap_or(NOBODY));
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let proxies = Proxies { trusted: trusted.clone(), header };
        assert_eq!(proxies.client_of(outside, &[data]), outside);
        let client = proxies.client_of(proxy, &[data]);
        assert!(client == proxy || !client.ip().is_unspecified() || data.contains(&b'0') || data.contains(&b':'));
    }
}

/// Where an address can't be read, which these always can.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
