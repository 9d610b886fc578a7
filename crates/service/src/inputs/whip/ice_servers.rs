//! STUN and TURN servers for clients (RFC 9725 §4.6), as `Link` headers.

use crate::config::{RtcConfig, TurnAccess, TurnServer};
use aws_lc_rs::hmac;
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use session::participant::ParticipantFactory;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// TURN servers of a room that are told at most: each is more candidates to gather.
const MAX_TOLD: usize = 4;

/// The servers, and what clients show them.
#[derive(Clone, Default)]
pub struct IceServers {
    stun: Vec<String>,
    turn: Vec<TurnServer>,
    /// Where no TURN server is configured: whom to ask for those of a room's server.
    rooms: Option<Arc<dyn ParticipantFactory>>,
}

impl IceServers {
    /// Those that are configured.
    pub fn new(rtc: &RtcConfig) -> Self {
        Self { stun: rtc.stun_servers.clone(), turn: rtc.turn_servers.clone(), rooms: None }
    }

    /// Where no TURN server is configured, those that livekit-server names to its participants are told.
    #[must_use]
    pub fn or_of_rooms(self, participants: Arc<dyn ParticipantFactory>) -> Self {
        let rooms = self.turn.is_empty().then_some(participants);
        Self { rooms, ..self }
    }

    /// Whether the room's TURN servers are wanted, as none are configured.
    pub(super) fn wants_rooms(&self) -> bool {
        self.rooms.is_some()
    }

    /// The values of the headers for somebody who has shown a key to a room of the server `ws_url`; `name` goes into credentials that are
    /// made for them.
    pub(super) fn all(&self, name: &str, ws_url: &str, now: SystemTime) -> Vec<HeaderValue> {
        let configured = self.turn.iter().map(|server| link(&granted(server, name, now)));
        let of_room = self.of_room(ws_url).into_iter().map(|server| link(&server));
        let texts = self.public_texts().chain(configured).chain(of_room);
        texts.filter_map(|text| HeaderValue::try_from(text).ok()).collect()
    }

    fn of_room(&self, ws_url: &str) -> Vec<model::TurnServer> {
        let facts = self.rooms.as_ref().map(|rooms| rooms.server_facts(ws_url));
        let known = facts.as_ref().map(|facts| facts.borrow());
        let servers = known.as_ref().and_then(|known| known.as_ref()?.fresh_turn_servers(Instant::now()));
        servers.unwrap_or_default().iter().take(MAX_TOLD).cloned().collect()
    }

    /// Those that hold no credentials.
    pub(super) fn public(&self) -> Vec<HeaderValue> {
        self.public_texts().filter_map(|text| HeaderValue::try_from(text).ok()).collect()
    }

    /// Whether a key may bring more than [`IceServers::public`].
    pub(super) fn has_turn(&self) -> bool {
        !self.turn.is_empty() || self.wants_rooms()
    }

    fn public_texts(&self) -> impl Iterator<Item = String> {
        self.stun.iter().map(|server| format!("<stun:{server}>; rel=\"ice-server\""))
    }
}

/// A configured server, with credentials for one client.
fn granted(server: &TurnServer, name: &str, now: SystemTime) -> model::TurnServer {
    let (username, password) = match &server.access {
        TurnAccess::Fixed { username, credential } => (username.clone(), credential.clone()),
        TurnAccess::Shared { secret, ttl } => transient(secret.expose(), name, now + *ttl),
    };
    let (host, port, transport) = (server.host.clone(), server.port, server.protocol);
    model::TurnServer { host, port, transport, username, password }
}

fn link(server: &model::TurnServer) -> String {
    let (username, credential) = (quoted(&server.username), quoted(server.password.expose()));
    format!(
        "<{uri}>; rel=\"ice-server\"; username={username}; credential={credential}; credential-type=\"password\"",
        uri = server.uri(),
    )
}

/// A user and a password that expire: the time in the name, and the name signed (draft-uberti-behave-turn-rest-00
/// §2.2; coturn's `use-auth-secret`). SHA-1 is what TURN servers expect, and as a MAC it holds.
fn transient(secret: &str, name: &str, until: SystemTime) -> (String, Secret) {
    let until = until.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let username = format!("{until}:{name}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, Secret::new(credential))
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
    use crate::config::TurnTransport;
    use crate::testing::FakeParticipants;
    use publish::ServerFacts;
    use std::time::Duration;

    fn server(protocol: TurnTransport, access: TurnAccess) -> TurnServer {
        TurnServer { host: "turn.example".into(), port: 3478, protocol, access }
    }

    #[test]
    fn headers_as_in_the_rfc() {
        let fixed = TurnAccess::Fixed { username: "us\"er".into(), credential: Secret::new("pass\\word") };
        let rtc = RtcConfig {
            stun_servers: vec!["stun.example:3478".into()],
            turn_servers: vec![server(TurnTransport::Udp, fixed)],
            ..RtcConfig::default()
        };
        let links = IceServers::new(&rtc);
        assert_eq!(links.public(), ["<stun:stun.example:3478>; rel=\"ice-server\""]);
        assert_eq!(
            links.all("x", "ws://sfu", UNIX_EPOCH)[1],
            "<turn:turn.example:3478?transport=udp>; rel=\"ice-server\"; username=\"us\\\"er\"; \
             credential=\"pass\\\\word\"; credential-type=\"password\""
        );
    }

    #[test]
    fn credentials_expire() {
        let shared = TurnAccess::Shared { secret: Secret::new("north"), ttl: Duration::from_secs(86_400) };
        let mut tls = server(TurnTransport::Tls, shared);
        tls.host = "2001:db8::1".into();
        let link = link(&granted(&tls, "WH_1", UNIX_EPOCH + Duration::from_secs(1_000)));
        assert!(link.starts_with("<turns:[2001:db8::1]:3478?transport=tcp>; "), "{link}");
        assert!(link.contains("username=\"87400:WH_1\""), "{link}");
        // By OpenSSL: printf %s 87400:WH_1 | openssl dgst -sha1 -hmac north -binary | base64
        assert!(link.contains("credential=\"1zFkWIrt13oAPQvXSsepjpZUSps=\""), "{link}");
    }

    #[test]
    fn servers_of_the_room_stand_in_for_none() {
        let participants = Arc::<FakeParticipants>::default();
        let told = |uri: &str, ago: u64| {
            let turn_servers = vec![model::TurnServer::read(uri, "user", "pass").unwrap()];
            let told = Instant::now().checked_sub(Duration::from_secs(ago)).unwrap();
            participants.facts.send_replace(Some(ServerFacts { video_codecs: Vec::new(), turn_servers, told }));
        };
        let links = IceServers::default().or_of_rooms(participants.clone());
        assert!(links.has_turn() && links.all("x", "ws://sfu", UNIX_EPOCH).is_empty(), "nothing is known yet");
        told("turns:turn.example:443", 0);
        assert_eq!(
            links.all("x", "ws://sfu", UNIX_EPOCH),
            ["<turns:turn.example:443?transport=tcp>; rel=\"ice-server\"; username=\"user\"; credential=\"pass\"; \
              credential-type=\"password\""]
        );
        assert!(links.public().is_empty(), "not for those without a key");
        told("turns:turn.example:443", 3_601);
        assert!(links.all("x", "ws://sfu", UNIX_EPOCH).is_empty(), "its credentials may have expired");
        // What is configured is all that is told.
        let fixed = TurnAccess::Fixed { username: "u".into(), credential: Secret::new("p") };
        let rtc = RtcConfig { turn_servers: vec![server(TurnTransport::Udp, fixed)], ..RtcConfig::default() };
        let links = IceServers::new(&rtc).or_of_rooms(participants.clone());
        told("turn:other.example", 0);
        assert_eq!((links.all("x", "ws://sfu", UNIX_EPOCH).len(), links.wants_rooms()), (1, false));
    }
}
