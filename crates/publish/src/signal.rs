//! The WebSocket to the server: a task that owns it, and two bounded queues to and from it. Media never waits for it.

use crate::{Error, join, proxied};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use model::{Proxy, Secret};
use prost::Message as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Url;

/// Messages that may wait in each direction. There are a dozen in a join, then one every few seconds.
const MESSAGE_QUEUE: usize = 64;
/// Bytes of a message at most: a join response of a room with thousands of participants stays below.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// How long each address of the server may take, so that a dead one does not use up the time of the others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that does not take a message for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a server's refusal that are shown.
const MAX_REFUSAL_TEXT: usize = 200;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An open WebSocket. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct SignalSocket {
    out: mpsc::Sender<signal_request::Message>,
    incoming: mpsc::Receiver<signal_response::Message>,
    task: JoinHandle<()>,
}

impl SignalSocket {
    /// Queues a message. False if the WebSocket is gone, or its queue is full.
    pub(crate) fn send(&self, message: signal_request::Message) -> bool {
        self.out.try_send(message).is_ok()
    }

    /// The next message; `None` once the socket is gone.
    pub(crate) async fn next(&mut self) -> Option<signal_response::Message> {
        self.incoming.recv().await
    }
}

impl Drop for SignalSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The addresses of the server, or of the proxy that leads to it: one way or the other, the network where we reach it.
pub(crate) async fn resolve(base: &Url, proxy: Option<&Proxy>) -> Result<Vec<SocketAddr>, Error> {
    let unreachable = |e: io::Error| Error::Unreachable { at: join::name(base), source: e.into() };
    let (host, port) = match proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => proxied::host_and_port(base),
    };
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?.collect();
    if found.is_empty() { Err(unreachable(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// Opens a WebSocket.
pub(crate) async fn dial(url: Url, proxy: Option<Proxy>, token: Secret) -> Result<SignalSocket, Error> {
    let at = join::name(&url);
    let mut stream = connect(&url, proxy.as_ref()).await?;
    if let Some(proxy) = &proxy {
        proxied::open(&mut stream, proxy, &url).await?;
    }
    let mut request = url.as_str().into_client_request().map_err(|_| Error::Address(at.clone()))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| Error::Token("it has characters that an HTTP header can't have".into()))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let (socket, _) = client_async_tls_with_config(request, stream, Some(config), None).await.map_err(|e| match e {
        tungstenite::Error::Http(response) => refusal(at.clone(), &response, &token),
        other => Error::Unreachable { at: at.clone(), source: other.into() },
    })?;
    let (out, out_rx) = mpsc::channel(MESSAGE_QUEUE);
    let (in_tx, incoming) = mpsc::channel(MESSAGE_QUEUE);
    Ok(SignalSocket { out, incoming, task: tokio::spawn(run(socket, out_rx, in_tx)) })
}

/// Tries the server's addresses in turn, or those of the proxy that leads to it.
async fn connect(url: &Url, proxy: Option<&Proxy>) -> Result<TcpStream, Error> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(url, proxy).await? {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Signalling is small messages that somebody waits for.
                if let Err(e) = stream.set_nodelay(true) {
                    tracing::debug!(error = %e, "no TCP_NODELAY");
                }
                return Ok(stream);
            }
            Ok(Err(e)) => last = e,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Error::Unreachable { at: join::name(url), source: last.into() })
}

/// What the server answers in place of opening a WebSocket. It quotes a token that it refuses: that is cut out.
fn refusal(at: String, response: &Response<Option<Vec<u8>>>, token: &Secret) -> Error {
    let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
    let body = if token.is_empty() { body } else { body.replace(token.expose(), "…") };
    let text: String =
        body.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REFUSAL_TEXT).collect();
    let status = response.status();
    let text = if text.is_empty() { status.canonical_reason().unwrap_or("no reason given").into() } else { text };
    match status.as_u16() {
        401 => Error::Token(text),
        status => Error::Refused { at, status, text },
    }
}

async fn run(
    mut socket: Socket,
    mut out: mpsc::Receiver<signal_request::Message>,
    incoming: mpsc::Sender<signal_response::Message>,
) {
    loop {
        let message = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message)) => message,
                Some(Err(e)) => {
                    tracing::debug!(error = %e, "the signalling connection broke");
                    return;
                }
                None => return,
            },
            message = out.recv() => {
                let Some(message) = message else { return };
                let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
                match tokio::time::timeout(WRITE_TIMEOUT, socket.send(Message::binary(bytes))).await {
                    Ok(Ok(())) => continue,
                    _ => return,
                }
            }
        };
        // Text is for clients that asked in text; pings are answered by the library.
        let Message::Binary(bytes) = message else { continue };
        match SignalResponse::decode(bytes) {
            Ok(SignalResponse { message: Some(message) }) => {
                if incoming.send(message).await.is_err() {
                    return;
                }
            }
            // A message newer than we are.
            Ok(SignalResponse { message: None }) => {}
            Err(e) => tracing::debug!(error = %e, "an unreadable signalling message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_never_quotes_the_token() {
        let token = Secret::new("eyJhbGciOi.payload.signature");
        let body =
            format!("invalid token: {}, error: square/go-jose: error in\ncryptographic primitive", token.expose());
        let response = Response::builder().status(401).body(Some(body.into_bytes())).unwrap();
        let text = refusal("ws://h".into(), &response, &token).to_string();
        assert_eq!(
            text,
            "LiveKit refused the token: invalid token: …, error: square/go-jose: error in cryptographic primitive; \
             check api_key and api_secret"
        );
    }

    #[test]
    fn refusal_without_text_gets_some() {
        let response = Response::builder().status(503).body(None).unwrap();
        let error = refusal("ws://h".into(), &response, &Secret::default());
        assert_eq!(error.to_string(), "LiveKit at ws://h answered 503: Service Unavailable");
        assert!(error.fault().retry);
    }
}
