//! The first request to the server: which URL to open a WebSocket at, and what it holds.

use crate::{Error, message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use livekit_protocol as proto;
use prost::Message as _;
use url::Url;

/// Bytes of a join request in the URL at most. Proxies refuse request lines beyond 8 kB (nginx and Apache by default);
/// what is left is for path, host and the other headers. A longer one goes without tracks and offer, which follow as messages.
const MAX_JOIN_REQUEST: usize = 6_000;

/// The path and format of the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/rtc/v1`: the whole join request in the URL, one peer connection. Saves a round trip.
    V1,
    /// `/rtc`: for servers that don't know the newer one.
    V0,
}

/// What the first request holds.
#[derive(Debug, Default)]
pub(crate) struct JoinRequest {
    /// The tracks, and the offer that goes with them.
    pub(crate) tracks: Vec<proto::AddTrackRequest>,
    pub(crate) offer: Option<proto::SessionDescription>,
    /// The sid of the participant to resume.
    pub(crate) resume: Option<String>,
}

/// The URL, and whether tracks and offer are in it.
pub(crate) fn url(base: &Url, dialect: Dialect, opening: &JoinRequest) -> (Url, bool) {
    match dialect {
        Dialect::V0 => (v0(base, opening.resume.as_deref()), false),
        Dialect::V1 => {
            let whole = encode(opening);
            if whole.len() <= MAX_JOIN_REQUEST {
                return (v1(base, &whole), opening.offer.is_some());
            }
            let bare = JoinRequest { resume: opening.resume.clone(), ..Default::default() };
            (v1(base, &encode(&bare)), false)
        }
    }
}

fn encode(opening: &JoinRequest) -> String {
    let request = proto::JoinRequest {
        client_info: Some(proto::ClientInfo {
            sdk: proto::client_info::Sdk::Rust as i32,
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: message::PROTOCOL,
            os: std::env::consts::OS.into(),
            ..Default::default()
        }),
        connection_settings: Some(proto::ConnectionSettings { auto_subscribe: false, ..Default::default() }),
        add_track_requests: opening.tracks.clone(),
        publisher_offer: opening.offer.clone(),
        reconnect: opening.resume.is_some(),
        participant_sid: opening.resume.clone().unwrap_or_default(),
        ..Default::default()
    };
    let wrapped = proto::WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    URL_SAFE.encode(wrapped.encode_to_vec())
}

fn v1(base: &Url, request: &str) -> Url {
    let mut url = at(base, "rtc/v1");
    url.query_pairs_mut().append_pair("join_request", request);
    url
}

fn v0(base: &Url, resume: Option<&str>) -> Url {
    let mut url = at(base, "rtc");
    let mut query = url.query_pairs_mut();
    query
        .append_pair("protocol", &message::PROTOCOL.to_string())
        .append_pair("sdk", "rust")
        .append_pair("version", env!("CARGO_PKG_VERSION"))
        .append_pair("os", std::env::consts::OS)
        .append_pair("auto_subscribe", "0");
    if let Some(sid) = resume {
        query.append_pair("reconnect", "1").append_pair("sid", sid);
    }
    drop(query);
    url
}

fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let joined = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

/// Reads `ws_url`; `http` and `https` stand for their WebSocket twins. What isn't needed is left out, credentials too.
pub(crate) fn base(ws_url: &str) -> Result<Url, Error> {
    let bad = || Error::Address(redacted(ws_url));
    let mut url = Url::parse(ws_url.trim()).map_err(|_| bad())?;
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(bad()),
    };
    // These fail only for URLs without a host, which the last line refuses.
    url.set_scheme(scheme).map_err(|()| bad())?;
    url.set_username("").map_err(|()| bad())?;
    url.set_password(None).map_err(|()| bad())?;
    url.set_query(None);
    url.set_fragment(None);
    if url.host().is_none() { Err(bad()) } else { Ok(url) }
}

/// Scheme, host and port, for texts.
pub(crate) fn name(base: &Url) -> String {
    let port = base.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}", base.scheme(), base.host_str().unwrap_or_default())
}

/// An address that can't be parsed may still hold a password before its `@`.
fn redacted(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, after)) => format!("…@{after}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(url: &Url) -> proto::JoinRequest {
        let (_, value) = url.query_pairs().find(|(k, _)| k == "join_request").unwrap();
        let wrapped = proto::WrappedJoinRequest::decode(&URL_SAFE.decode(value.as_bytes()).unwrap()[..]).unwrap();
        assert_eq!(wrapped.compression, 0);
        proto::JoinRequest::decode(&wrapped.join_request[..]).unwrap()
    }

    #[test]
    fn addresses_become_websocket_urls() {
        for (given, wanted) in [
            ("ws://h:7880", "ws://h:7880/rtc"),
            ("http://h:7880/", "ws://h:7880/rtc"),
            ("https://h/sub/", "wss://h/sub/rtc"),
            ("wss://user:pass@h/a?x=1#y", "wss://h/a/rtc"),
            ("ws://[::1]:7880", "ws://[::1]:7880/rtc"),
        ] {
            let (url, _) = url(&base(given).unwrap(), Dialect::V0, &JoinRequest::default());
            assert_eq!(url.as_str().split('?').next(), Some(wanted));
        }
        for bad in ["", "localhost:7880", "ftp://h", "ws://"] {
            assert!(base(bad).is_err(), "{bad}");
        }
        assert!(!base("ws//user:pass@h").unwrap_err().to_string().contains("pass"));
        assert_eq!(name(&base("https://u:p@h:8/x").unwrap()), "wss://h:8");
    }

    #[test]
    fn join_carries_its_offer_and_resume_its_participant() {
        let base = base("ws://h").unwrap();
        let offer = Some(message::offer("v=0".into(), 1));
        let (whole, inside) = url(&base, Dialect::V1, &JoinRequest { offer: offer.clone(), ..Default::default() });
        assert!(inside);
        assert_eq!(decoded(&whole).publisher_offer, offer);
        assert!(!decoded(&whole).connection_settings.unwrap().auto_subscribe);

        let (resume, inside) =
            url(&base, Dialect::V1, &JoinRequest { resume: Some("PA_1".into()), ..Default::default() });
        assert!(!inside);
        let request = decoded(&resume);
        assert!(request.reconnect);
        assert_eq!(request.participant_sid, "PA_1");

        let (old, _) = url(&base, Dialect::V0, &JoinRequest { resume: Some("PA_1".into()), ..Default::default() });
        assert!(old.query().unwrap().contains("reconnect=1&sid=PA_1"), "{old}");
    }

    #[test]
    fn long_offer_follows_as_messages() {
        let offer = Some(message::offer("v".repeat(10_000), 1));
        let (url, inside) = url(&base("ws://h").unwrap(), Dialect::V1, &JoinRequest { offer, ..Default::default() });
        assert!(!inside && url.as_str().len() < 1_000);
    }
}
