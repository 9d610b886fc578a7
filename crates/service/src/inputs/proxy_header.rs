//! The PROXY protocol, versions 1 and 2 (haproxy.org, `doc/proxy-protocol.txt`): a balancer's words about whose connection it
//! passes on, before the connection's own first byte. Read only from addresses that the configuration trusts.
//!
//! The parsers are pure; `read` takes exactly the header, so that what follows it may be anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The beginning of version 2 (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included (§2.1).
const MAX_LINE: usize = 107;
/// The longest rest of version 2: addresses take 36 bytes, and what balancers add (a name, an id, TLS) stays below 2 KiB.
const MAX_REST: usize = 4 << 10;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A client's.
    Client(SocketAddr),
    /// The balancer's own (a health check), or a client's that it can't name.
    Proxy,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the connection does not begin with a PROXY header, though its address is one of rtmp_proxy_protocol_from")]
    Missing,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("the PROXY header is too long")]
    TooLong,
}

/// Reads a header of either version, and nothing behind it.
///
/// # Errors
/// [`Fault`] as [`io::ErrorKind::InvalidData`], or the stream's own.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Source> {
    let invalid = |fault: Fault| io::Error::new(io::ErrorKind::InvalidData, fault);
    // No header is shorter: the shortest line is "PROXY UNKNOWN".
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let length = rest_of_v2(fixed).map_err(invalid)?;
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return v2(fixed, &rest).map_err(invalid);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(invalid(Fault::Missing));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(invalid(Fault::TooLong));
        }
        // One at a time: what follows is another protocol's.
        line.push(stream.read_u8().await?);
    }
    v1(&line).map_err(invalid)
}

/// Reads a line of version 1, its end included.
///
/// # Errors
/// [`Fault`].
pub fn v1(line: &[u8]) -> Result<Source, Fault> {
    let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_suffix("\r\n")).ok_or(Fault::Malformed)?;
    let mut words = text.split(' ');
    let (Some("PROXY"), Some(family)) = (words.next(), words.next()) else { return Err(Fault::Malformed) };
    let rest: Vec<&str> = words.collect();
    match (family, &rest[..]) {
        ("UNKNOWN", _) => Ok(Source::Proxy),
        ("TCP4" | "TCP6", [source, destination, port, to]) => {
            let address = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (family == "TCP4"));
            let number = |text: &str| text.parse::<u16>().ok();
            let (Some(source), Some(_), Some(port), Some(_)) =
                (address(source), address(destination), number(port), number(to))
            else {
                return Err(Fault::Malformed);
            };
            Ok(Source::Client(SocketAddr::new(source, port)))
        }
        _ => Err(Fault::Malformed),
    }
}

/// The length of what follows the fixed part of version 2.
///
/// # Errors
/// [`Fault`].
pub fn rest_of_v2(fixed: [u8; 4]) -> Result<usize, Fault> {
    let [version, _, high, low] = fixed;
    if version >> 4 != 2 {
        return Err(Fault::Malformed);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST { Err(Fault::TooLong) } else { Ok(length) }
}

/// Reads version 2: the four bytes behind its signature, and the rest.
///
/// # Errors
/// [`Fault`].
pub fn v2(fixed: [u8; 4], rest: &[u8]) -> Result<Source, Fault> {
    const LOCAL: u8 = 0;
    const PROXY: u8 = 1;
    // Families of addresses in the upper half, stream or datagram in the lower.
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    let [version_command, family, ..] = fixed;
    match (version_command & 0xf, family) {
        (LOCAL, _) => Ok(Source::Proxy),
        (PROXY, TCP_OVER_IPV4) => {
            let Some((&[a, b, c, d, _, _, _, _, high, low, _, _], _)) = rest.split_first_chunk::<12>() else {
                return Err(Fault::Malformed);
            };
            let port = u16::from_be_bytes([high, low]);
            Ok(Source::Client(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let Some((fields, _)) = rest.split_first_chunk::<36>() else { return Err(Fault::Malformed) };
            let (source, ports) = (fields.first_chunk::<16>(), fields.last_chunk::<4>());
            let (Some(source), Some(&[high, low, _, _])) = (source, ports) else { return Err(Fault::Malformed) };
            let port = u16::from_be_bytes([high, low]);
            Ok(Source::Client(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        // A family that has no address we could count by.
        (PROXY, _) => Ok(Source::Proxy),
        _ => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(text: &str) -> Source {
        Source::Client(text.parse().unwrap())
    }

    #[test]
    fn lines_of_version_1() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 56324 1935\r\n", client("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", client("[2001:db8::7]:1")),
            ("PROXY UNKNOWN\r\n", Source::Proxy),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Source::Proxy),
        ] {
            assert_eq!(v1(line.as_bytes()), Ok(source), "{line}");
        }
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 1935\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
            "\r\n",
        ] {
            assert_eq!(v1(line.as_bytes()), Err(Fault::Malformed), "{line}");
        }
    }

    fn header_v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn a_header_is_read_and_nothing_behind_it() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 7, 0x8f];
        let mut v6 = vec![0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[33] = 9;
        // With a field of its own behind the addresses, as balancers in clouds add one.
        let extended = [&v4[..], &[0xea, 0, 3, 1, 2, 3]].concat();
        for (header, source) in [
            (header_v2(1, 0x11, &v4), client("192.0.2.7:56324")),
            (header_v2(1, 0x11, &extended), client("192.0.2.7:56324")),
            (header_v2(1, 0x21, &v6), client("[2001:db8::7]:9")),
            (header_v2(1, 0x31, &[0; 216]), Source::Proxy),
            (header_v2(0, 0, &[]), Source::Proxy),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 1935\r\n".to_vec(), client("192.0.2.7:56324")),
        ] {
            let all = [&header[..], b"\x03rest"].concat();
            let mut stream = &all[..];
            assert_eq!(read(&mut stream).await.unwrap(), source);
            assert_eq!(stream, b"\x03rest");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 100], b"\r\n"].concat();
        for (bytes, wanted) in [
            (b"\x03 an RTMP handshake".to_vec(), "does not begin with a PROXY header"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin"),
            (long, "too long"),
            (header_v2(1, 0x11, &[0; 11]), "malformed"),
            (header_v2(7, 0x11, &[0; 12]), "malformed"),
            ([&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(), "malformed"),
            ([&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(), "too long"),
        ] {
            let error = read(&mut &bytes[..]).await.unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
        assert_eq!(read(&mut &b"PROXY"[..]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(fixed: [u8; 4], rest in proptest::collection::vec(any::<u8>(), 0..64), text in "PROXY \\PC{0,60}\r\n") {
            let _ = (v1(text.as_bytes()), v2(fixed, &rest), rest_of_v2(fixed));
        }

        #[test]
        fn clients_survive_both_versions(ip: u32, port: u16) {
            let wanted = Source::Client(SocketAddr::new(Ipv4Addr::from(ip).into(), port));
            let line = format!("PROXY TCP4 {} 10.0.0.1 {port} 1935\r\n", Ipv4Addr::from(ip));
            prop_assert_eq!(v1(line.as_bytes()), Ok(wanted));
            let rest = [&ip.to_be_bytes()[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[0, 0]].concat();
            prop_assert_eq!(v2([0x21, 0x11, 0, 12], &rest), Ok(wanted));
        }
    }
}
