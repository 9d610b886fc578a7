//! The handle against a server that is not there, or only half: a WebSocket on loopback, without media.

use super::*;
use crate::LayerFormat;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use model::{Layer, Quality, Secret, TrackSource};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

const WITHIN: Duration = Duration::from_secs(20);

fn tracks() -> Tracks {
    let layers = vec![Layer { quality: Quality::High, width: 320, height: 180, bitrate: 100_000 }];
    let layers =
        layers.into_iter().map(|layer| LayerFormat { layer, format: model::EncodedVideo::H264.into() }).collect();
    let video = VideoTrack { cid: "v".into(), name: String::new(), source: TrackSource::Camera, layers };
    Tracks { video: Some(video), audio: None }
}

fn config(port: u16) -> Config {
    Config { loopback: true, ..Config::new(format!("ws://127.0.0.1:{port}"), Secret::new("a.b.c")) }
}

async fn event(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(WITHIN, events.recv()).await.expect("an event").expect("not over")
}

/// Lets the next client in, or refuses it with this status.
async fn serve(listener: &TcpListener, refuse: Option<u16>) -> (String, Option<WebSocketStream<TcpStream>>) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut path = String::new();
    #[allow(clippy::result_large_err)] // the library's type
    let check = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        assert_eq!(request.headers()["authorization"], "Bearer a.b.c");
        match refuse {
            None => Ok(response),
            Some(status) => {
                let mut no = ErrorResponse::new(Some("invalid token: a.b.c, error: signature".into()));
                *no.status_mut() = status.try_into().unwrap();
                Err(no)
            }
        }
    };
    let socket = accept_hdr_async(stream, check).await.ok();
    (path, socket)
}

async fn tell(socket: &mut WebSocketStream<TcpStream>, message: proto::signal_response::Message) {
    let bytes = proto::SignalResponse { message: Some(message) }.encode_to_vec();
    socket.send(Message::binary(bytes)).await.unwrap();
}

async fn hear(socket: &mut WebSocketStream<TcpStream>) -> proto::signal_request::Message {
    loop {
        let message = tokio::time::timeout(WITHIN, socket.next()).await.expect("a message").unwrap().unwrap();
        if let Message::Binary(bytes) = message {
            return proto::SignalRequest::decode(bytes).unwrap().message.unwrap();
        }
    }
}

#[tokio::test]
async fn unreachable_server_ends_it() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config = Config { join_retry_window: Duration::ZERO, ..config(port) };
    let (_publisher, mut events) = connect(config, tracks());
    let Event::Closed(fault) = event(&mut events).await else { panic!() };
    assert!(fault.text.starts_with(&format!("cannot reach LiveKit at ws://127.0.0.1:{port}: ")), "{}", fault.text);
    assert!(fault.text.to_lowercase().contains("connection refused") && fault.retry, "{}", fault.text);
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn bad_address_ends_it() {
    let (_publisher, mut events) = connect(Config::new("localhost", Secret::new("t")), tracks());
    let Event::Closed(fault) = event(&mut events).await else { panic!() };
    assert_eq!(fault.text, "the address of LiveKit, \"localhost\", is not a ws:// or wss:// URL");
}

#[tokio::test]
async fn bad_token_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_publisher, mut events) = connect(config(listener.local_addr().unwrap().port()), tracks());
    serve(&listener, Some(401)).await;
    let Event::Closed(fault) = event(&mut events).await else { panic!() };
    assert_eq!(
        fault.text,
        "LiveKit refused the token: invalid token: …, error: signature; check api_key and api_secret"
    );
    assert!(!fault.retry);
}

#[tokio::test]
async fn older_server_and_a_goodbye() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (publisher, mut events) = connect(config(listener.local_addr().unwrap().port()), tracks());
    let (path, _) = serve(&listener, Some(404)).await;
    assert_eq!(path, "/rtc/v1");
    let (path, socket) = serve(&listener, None).await;
    assert_eq!(path, "/rtc");
    let mut socket = socket.unwrap();
    tell(&mut socket, proto::signal_response::Message::Join(proto::JoinResponse::default())).await;
    use proto::signal_request::Message as Said;
    let mut said = Vec::new();
    for _ in 0..2 {
        said.push(hear(&mut socket).await);
    }
    assert!(said.iter().any(|m| matches!(m, Said::AddTrack(t) if t.cid == "v")), "{said:?}");
    assert!(said.iter().any(|m| matches!(m, Said::Offer(o) if o.sdp.contains("127.0.0.1"))), "{said:?}");
    assert!(matches!(event(&mut events).await, Event::Joined { .. }));
    let server = async {
        let goodbye = hear(&mut socket).await;
        tell(&mut socket, proto::signal_response::Message::Leave(proto::LeaveRequest::default())).await;
        goodbye
    };
    let (goodbye, ()) = tokio::join!(server, publisher.leave());
    assert!(matches!(goodbye, Said::Leave(l) if l.reason == proto::DisconnectReason::ClientInitiated as i32));
    assert_eq!(tokio::time::timeout(WITHIN, events.recv()).await.unwrap(), None, "no event after a goodbye of ours");
}

#[tokio::test]
async fn dropped_handle_leaves_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (publisher, mut events) = connect(config(listener.local_addr().unwrap().port()), tracks());
    let mut socket = serve(&listener, None).await.1.unwrap();
    tell(&mut socket, proto::signal_response::Message::Join(proto::JoinResponse::default())).await;
    assert!(matches!(event(&mut events).await, Event::Joined { .. }));
    drop(publisher);
    assert!(matches!(hear(&mut socket).await, proto::signal_request::Message::Leave(_)));
}

#[tokio::test]
async fn panic_ends_this_session_only() {
    let fault = contain(async { panic!("what the engine takes for impossible") }).await.unwrap();
    assert_eq!((fault.blame, fault.retry), (Blame::Us, true));
    assert_eq!(contain(async {}).await, None);
}
