//! The signalling connection as the task sees it: closed, on its way, or open.

use crate::Error;
use crate::proxied;
use crate::signal::{self, SignalSocket};
use livekit_protocol::signal_request::Message as Outgoing;
use livekit_protocol::signal_response::Message as Incoming;
use model::{Proxies, Secret};
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use url::Url;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The WebSocket, or what comes before it.
pub(crate) enum Signalling {
    /// Neither there nor wanted.
    Closed,
    /// Looking the server up, for the peer connection to be made.
    Resolving(Work<Vec<SocketAddr>>, Box<PeerRequest>),
    /// Opening the WebSocket.
    Dialing(Work<SignalSocket>),
    /// Messages go both ways.
    Open(SignalSocket),
}

/// The peer connection that is to be made once the server's addresses are known.
#[derive(Debug)]
pub(crate) struct PeerRequest {
    pub(crate) config: rtc::Config,
    pub(crate) lines: rtc::Lines,
}

/// What comes of it.
pub(crate) enum SignalEvent {
    /// The server's addresses.
    Resolved(Vec<SocketAddr>, Box<PeerRequest>),
    /// It can't be looked up, or refuses.
    Failed(Error),
    /// It says something.
    Message(Box<Incoming>),
    /// The WebSocket is gone.
    Lost,
}

impl Signalling {
    /// Looks the server up, or the proxy that leads to it.
    pub(crate) fn resolve(server: Url, proxies: &Proxies, request: PeerRequest) -> Self {
        let proxy = proxied::proxy(proxies, &server).cloned();
        Self::Resolving(Box::pin(async move { signal::resolve(&server, proxy.as_ref()).await }), Box::new(request))
    }

    /// Opens the WebSocket.
    pub(crate) fn dial(url: Url, proxies: &Proxies, token: Secret) -> Self {
        let proxy = proxied::proxy(proxies, &url).cloned();
        Self::Dialing(Box::pin(signal::dial(url, proxy, token)))
    }

    /// Sends a message, if the WebSocket is open. False if it is gone, and closed by that.
    pub(crate) fn send(&mut self, message: Outgoing) -> bool {
        let Self::Open(socket) = self else { return true };
        let sent = socket.send(message);
        if !sent {
            *self = Self::Closed;
        }
        sent
    }

    /// The next thing that comes of it. Cancel safe.
    pub(crate) async fn next(&mut self) -> SignalEvent {
        loop {
            match self {
                Self::Closed => pending().await,
                Self::Resolving(work, _) => {
                    let found = work.await;
                    match (found, std::mem::replace(self, Self::Closed)) {
                        (Ok(addresses), Self::Resolving(_, request)) => {
                            return SignalEvent::Resolved(addresses, request);
                        }
                        (Err(e), _) => return SignalEvent::Failed(e),
                        _ => {}
                    }
                }
                Self::Dialing(work) => match work.await {
                    Ok(socket) => *self = Self::Open(socket),
                    Err(e) => {
                        *self = Self::Closed;
                        return SignalEvent::Failed(e);
                    }
                },
                Self::Open(socket) => match socket.next().await {
                    Some(message) => return SignalEvent::Message(Box::new(message)),
                    None => {
                        *self = Self::Closed;
                        return SignalEvent::Lost;
                    }
                },
            }
        }
    }
}
