//! STUN and TURN servers for clients (RFC 9725 §4.6), as `Link` headers.

use crate::config::{RtcConfig, TurnAccess, TurnProtocol, TurnServer};
use aws_lc_rs::hmac;
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::Ipv6Addr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The servers, and what clients show them.
#[derive(Clone, Debug, Default)]
pub struct IceServers {
    stun: Vec<String>,
    turn: Vec<TurnServer>,
}

impl IceServers {
    /// Those that are configured.
    pub fn new(rtc: &RtcConfig) -> Self {
        Self { stun: rtc.stun_servers.clone(), turn: rtc.turn_servers.clone() }
    }

    /// The values of the headers for somebody who has shown a key; `name` goes into credentials that are made for them.
    pub(super) fn all(&self, name: &str, now: SystemTime) -> Vec<HeaderValue> {
        let turn = self.turn.iter().map(|server| turn(server, name, now));
        self.public_texts().chain(turn).filter_map(|text| HeaderValue::try_from(text).ok()).collect()
    }

    /// Those that hold no credentials.
    pub(super) fn public(&self) -> Vec<HeaderValue> {
        self.public_texts().filter_map(|text| HeaderValue::try_from(text).ok()).collect()
    }

    /// Whether a key brings more than [`IceServers::public`].
    pub(super) fn has_turn(&self) -> bool {
        !self.turn.is_empty()
    }

    fn public_texts(&self) -> impl Iterator<Item = String> {
        self.stun.iter().map(|server| format!("<stun:{server}>; rel=\"ice-server\""))
    }
}

fn turn(server: &TurnServer, name: &str, now: SystemTime) -> String {
    let host = match server.host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => server.host.clone(),
    };
    // RFC 7065 §3.1.
    let (scheme, transport) = match server.protocol {
        TurnProtocol::Udp => ("turn", "udp"),
        TurnProtocol::Tcp => ("turn", "tcp"),
        TurnProtocol::Tls => ("turns", "tcp"),
    };
    let (username, credential) = match &server.access {
        TurnAccess::Fixed { username, credential } => (username.clone(), credential.expose().to_owned()),
        TurnAccess::Shared { secret, ttl } => transient(secret.expose(), name, now + *ttl),
    };
    let (username, credential) = (quoted(&username), quoted(&credential));
    format!(
        "<{scheme}:{host}:{port}?transport={transport}>; rel=\"ice-server\"; username={username}; \
         credential={credential}; credential-type=\"password\"",
        port = server.port,
    )
}

/// A user and a password that expire: the time in the name, and the name signed (draft-uberti-behave-turn-rest-00
/// §2.2; coturn's `use-auth-secret`). SHA-1 is what TURN servers expect, and as a MAC it holds.
fn transient(secret: &str, name: &str, until: SystemTime) -> (String, String) {
    let until = until.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let username = format!("{until}:{name}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, credential)
}

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Secret;
    use std::time::Duration;

    fn server(protocol: TurnProtocol, access: TurnAccess) -> TurnServer {
        TurnServer { host: "turn.example".into(), port: 3478, protocol, access }
    }

    #[test]
    fn headers_as_in_the_rfc() {
        let fixed = TurnAccess::Fixed { username: "us\"er".into(), credential: Secret::new("pass\\word") };
        let rtc = RtcConfig {
            stun_servers: vec!["stun.example:3478".into()],
            turn_servers: vec![server(TurnProtocol::Udp, fixed)],
            ..RtcConfig::default()
        };
        let links = IceServers::new(&rtc);
        assert_eq!(links.public(), ["<stun:stun.example:3478>; rel=\"ice-server\""]);
        assert_eq!(
            links.all("x", UNIX_EPOCH)[1],
            "<turn:turn.example:3478?transport=udp>; rel=\"ice-server\"; username=\"us\\\"er\"; \
             credential=\"pass\\\\word\"; credential-type=\"password\""
        );
    }

    #[test]
    fn credentials_expire() {
        let shared = TurnAccess::Shared { secret: Secret::new("north"), ttl: Duration::from_secs(86_400) };
        let mut tls = server(TurnProtocol::Tls, shared);
        tls.host = "2001:db8::1".into();
        let link = turn(&tls, "WH_1", UNIX_EPOCH + Duration::from_secs(1_000));
        assert!(link.starts_with("<turns:[2001:db8::1]:3478?transport=tcp>; "), "{link}");
        assert!(link.contains("username=\"87400:WH_1\""), "{link}");
        // By OpenSSL: printf %s 87400:WH_1 | openssl dgst -sha1 -hmac north -binary | base64
        assert!(link.contains("credential=\"1zFkWIrt13oAPQvXSsepjpZUSps=\""), "{link}");
    }
}
