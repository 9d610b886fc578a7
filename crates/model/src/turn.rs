//! TURN servers as a room names them: address, transport and credentials (RFC 7065, RFC 8656).

use crate::Secret;

/// A TURN server, and what to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnServer {
    /// Its name or address; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How clients reach it.
    pub transport: TurnTransport,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// The transport between a client and a TURN server, the cheapest for media first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TurnTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl TurnTransport {
    /// As LiveKit's configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The default ports (RFC 7065 §3.2).
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

impl TurnServer {
    /// Its URI (RFC 7065 §3.1).
    pub fn uri(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let (scheme, transport) = match self.transport {
            TurnTransport::Udp => ("turn", "udp"),
            TurnTransport::Tcp => ("turn", "tcp"),
            TurnTransport::Tls => ("turns", "tcp"),
        };
        format!("{scheme}:{host}:{}?transport={transport}", self.port)
    }

    /// Reads a URI (RFC 7065 §3.1), such as `turns:turn.example.com:443?transport=tcp`. `None` if it is none of a TURN server, or of one
    /// that is reached by DTLS.
    pub fn read(uri: &str, username: &str, password: &str) -> Option<Self> {
        let (scheme, rest) = uri.trim().split_once(':')?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "turn" => false,
            "turns" => true,
            _ => return None,
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match (tls, query.strip_prefix("transport=").map(str::to_ascii_lowercase).as_deref()) {
            (false, None | Some("udp")) => TurnTransport::Udp,
            (false, Some("tcp")) => TurnTransport::Tcp,
            (true, None | Some("tcp")) => TurnTransport::Tls,
            _ => return None,
        };
        let (host, port) = host_and_port(address)?;
        let port = port.unwrap_or(if tls { TLS_PORT } else { PORT });
        let (username, password) = (username.to_owned(), Secret::new(password));
        Some(Self { host: host.to_owned(), port, transport, username, password })
    }
}

/// A host, and the port behind it if there is one; IPv6 in brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, after) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, after)
        }
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match after.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if after.is_empty() => None,
        None => return None,
    };
    // What a name may hold; a name in a header of ours is written as it is.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.chars().all(plain)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uris_as_livekit_writes_them() {
        for (uri, host, port, transport) in [
            ("turn:10.0.0.1:3479?transport=udp", "10.0.0.1", 3479, TurnTransport::Udp),
            ("turn:turn.example.com?transport=tcp", "turn.example.com", 3478, TurnTransport::Tcp),
            ("turns:turn.example.com:443?transport=tcp", "turn.example.com", 443, TurnTransport::Tls),
            ("TURNS:turn.example.com", "turn.example.com", 5349, TurnTransport::Tls),
            ("turn:[2001:db8::1]:1?transport=UDP", "2001:db8::1", 1, TurnTransport::Udp),
        ] {
            let read = TurnServer::read(uri, "user", "secret").expect(uri);
            assert_eq!((read.host.as_str(), read.port, read.transport), (host, port, transport), "{uri}");
            assert!(!format!("{read:?}").contains("secret"));
        }
        for none in [
            "",
            "turn",
            "turn:",
            "stun:a",
            "turns:a?transport=udp",
            "turn:a?transport=sctp",
            "turn:a:0",
            "turn:a:70000",
            "turn:[::1",
            "turn:[a]:1",
            "turn:[::1]1",
            "turn:a b",
            "turn:a>",
            "turn:::1",
        ] {
            assert_eq!(TurnServer::read(none, "", ""), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left(uri in ".*", tail in "[\\[\\]:a-z0-9?=.]{0,20}") {
            for uri in [uri, format!("turn:{tail}")] {
                if let Some(server) = TurnServer::read(&uri, "", "") {
                    prop_assert!(!server.host.is_empty() && server.port != 0);
                    prop_assert_eq!(TurnServer::read(&server.uri(), "", ""), Some(server.clone()));
                    prop_assert!(!server.host.contains(|c: char| c.is_whitespace() || "<>\"[]".contains(c)));
                }
            }
        }
    }
}
