//! TURN servers that are offered to WHIP clients (`rtc_config.turn_servers`, with LiveKit's keys): their types, and how they are read.

use std::net::IpAddr;
use std::time::Duration;

use model::{Secret, TurnTransport};

use super::fault::shortened;
use super::section::{Known, Located, Section};

/// The default lifetime of a TURN credential that is made from a shared secret: LiveKit's figure.
pub const DEFAULT_TURN_TTL: Duration = Duration::from_secs(14_400);

/// The most TURN servers: each is a header of the WHIP response and more candidates to gather, and more than a few only slow
/// clients down.
const MAX_TURN_SERVERS: usize = 16;

/// A TURN server that WHIP clients may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnServer {
    /// Its name or address; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The transport between client and server.
    pub protocol: TurnTransport,
    /// The credentials for it.
    pub access: TurnAccess,
}

/// The credentials for a TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnAccess {
    /// The same for all clients, without an end.
    Fixed {
        /// The user.
        username: String,
        /// Its password.
        credential: Secret,
    },
    /// Made for each client from a secret that the server shares, with a lifetime (`draft-uberti-behave-turn-rest`).
    Shared {
        /// The secret.
        secret: Secret,
        /// The lifetime, in whole seconds.
        ttl: Duration,
    },
}

/// Reads the `turn_servers` list.
pub(super) fn servers(section: &mut Section<'_, '_>, known: &mut Vec<Known>) -> Vec<TurnServer> {
    const KEY: &str = "turn_servers";
    let given = section.sections(KEY);
    if given.len() > MAX_TURN_SERVERS
        && let Some(at) = section.at_key(KEY)
    {
        section.fault(at, KEY, format!("{MAX_TURN_SERVERS} servers are allowed at most"));
    }
    // Registers the keys where there is no server.
    let absent = section.absent(KEY);
    let servers = given.into_iter().take(MAX_TURN_SERVERS).filter_map(|s| server(s, known)).collect();
    server(absent, known);
    servers
}

fn server(mut section: Section<'_, '_>, known: &mut Vec<Known>) -> Option<TurnServer> {
    let at = section.at();
    let name = section.parsed("host", host);
    let port = section.port("port", None);
    let protocol = section.parsed("protocol", |text| match text {
        "udp" => Ok(TurnTransport::Udp),
        "tcp" => Ok(TurnTransport::Tcp),
        "tls" => Ok(TurnTransport::Tls),
        _ => Err(format!("{:?} is none of udp, tcp and tls", shortened(text))),
    });
    let shown = access(&mut section);
    let missing = [("host", section.has("host")), ("port", section.has("port")), ("protocol", section.has("protocol"))];
    if let Some(at) = at {
        for (key, _) in missing.into_iter().filter(|(_, given)| !given) {
            section.fault(at, key, "is missing: a TURN server needs host, port and protocol");
        }
        if shown.is_none() {
            section.fault(at, "secret", "is missing: a TURN server needs secret, or username and credential");
        }
    }
    known.push(section.finish());
    Some(TurnServer { host: name?.value, port: port.port?, protocol: protocol?.value, access: shown? })
}

/// Reads the credentials. A secret takes precedence over username and credential, as in LiveKit.
fn access(section: &mut Section<'_, '_>) -> Option<TurnAccess> {
    let secret = section.text("secret");
    // A day at most: after that a client can open a new session.
    let ttl = section.int("ttl", 1..=86_400).and_then(|t| u64::try_from(t.value).ok());
    let username = section.parsed("username", |text| {
        let plain = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        plain.then(|| text.to_owned()).ok_or_else(|| "has characters that no header can carry".to_owned())
    });
    let credential = section.text("credential");
    if let Some(Located { value, .. }) = secret {
        let ttl = ttl.map_or(DEFAULT_TURN_TTL, Duration::from_secs);
        return Some(TurnAccess::Shared { secret: Secret::new(value), ttl });
    }
    let credential = credential?;
    if !credential.value.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        // Not shown: it is a secret.
        section.fault(credential.at, "credential", "has characters that no header can carry");
    }
    Some(TurnAccess::Fixed { username: username?.value, credential: Secret::new(credential.value) })
}

/// Reads a name or an address; IPv6 with or without brackets.
fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bare.parse::<IpAddr>().is_ok() || (bare.chars().all(name) && bare == text) {
        return Ok(bare.to_owned());
    }
    Err(format!("{:?} is not a host, such as turn.example.com", shortened(text)))
}
