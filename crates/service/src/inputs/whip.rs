//! The WHIP server (RFC 9725): HTTP in front of the WebRTC endpoint.
//!
//! [`Server::next`] yields a [`Request`] for every offer; who holds it answers with [`Request::accept`] or
//! [`Request::reject`]. What a client asks of its session afterwards (DELETE, PATCH) is answered here, also for sessions of
//! other machines, which are asked over the control plane.

mod answers;
mod body;
mod headers;
mod links;
mod media;
pub(crate) mod open;
mod resources;
mod routes;
pub(crate) mod source;

pub use headers::{IfMatch, Target, is_type, key_of};
pub use links::Links;
pub use media::{Accepted, Begin, Control, Media};

use crate::control::ControlPlane;
use crate::http;
use crate::inputs::connection_limits::LogBudget;
use crate::load::Capacity;
use crate::tls::Tls;
use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use headers::{FRAGMENT, SDP};
use model::{Blame, Fault, ResourceId, Secret, VideoFormat};
use resources::Resources;
use rtc::{Accept, Offer};
use session::Source;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Offers that may wait for [`Server::next`]. It is drained at once; what is above it is told to come again.
const REQUEST_QUEUE: usize = 64;

/// How long a client waits for the answer to its offer: 3 s to find the ingress, 3 s for a session that is ending, 3 s to learn
/// what the room takes, 1 s to subscribe, each with the machine busy.
const ANSWER: Duration = Duration::from_secs(13);

/// How long a connection is used for further requests: candidates trickle for seconds, a session lasts for hours.
const CONNECTION: Duration = Duration::from_secs(30);

/// What a server is made with.
pub struct Parts {
    /// Where media comes in.
    pub media: Arc<dyn Media>,
    /// Who knows of the sessions of other machines.
    pub control: Arc<dyn ControlPlane>,
    /// For `/availability`.
    pub load: Capacity,
    /// STUN and TURN servers for clients.
    pub links: Links,
    /// Connections at a time, on each port.
    pub max_connections: usize,
    /// Connections at a time from one address, on each port.
    pub max_connections_per_address: usize,
}

/// What all requests share.
struct Shared {
    media: Arc<dyn Media>,
    control: Arc<dyn ControlPlane>,
    load: Capacity,
    links: Links,
    resources: Resources,
    requests: mpsc::Sender<Request>,
    log: Arc<LogBudget>,
}

impl Shared {
    fn handles(&self) -> Handles {
        Handles {
            media: self.media.clone(),
            control: self.control.clone(),
            links: self.links.clone(),
            resources: self.resources.clone(),
            log: self.log.clone(),
        }
    }
}

/// What it takes to answer an offer.
struct Handles {
    media: Arc<dyn Media>,
    control: Arc<dyn ControlPlane>,
    links: Links,
    resources: Resources,
    log: Arc<LogBudget>,
}

/// The server. Dropping it closes the ports; sessions go on until they are let go of.
pub struct Server {
    shared: Arc<Shared>,
    limits: http::Limits,
    requests: mpsc::Receiver<Request>,
    ports: Vec<http::Server>,
}

impl Server {
    /// A server without a port.
    pub fn new(parts: Parts) -> Self {
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let limits = http::Limits {
            connections: parts.max_connections,
            connections_per_address: parts.max_connections_per_address,
            connection: CONNECTION,
            keep_alive: true,
            ..http::Limits::default()
        };
        let Parts { media, control, load, links, .. } = parts;
        let shared =
            Shared { media, control, load, links, resources: Resources::default(), requests, log: Arc::default() };
        Self { shared: Arc::new(shared), limits, requests: receiver, ports: Vec::new() }
    }

    /// Serves HTTP on this listener.
    ///
    /// # Errors
    /// The listener doesn't know its own address.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.add(http::serve(listener, self.router(), self.limits)?)
    }

    /// Serves HTTPS on this listener.
    ///
    /// # Errors
    /// The listener doesn't know its own address.
    pub(crate) fn listen_tls(&mut self, listener: TcpListener, tls: Tls) -> io::Result<SocketAddr> {
        self.add(http::serve_tls(listener, tls, self.router(), self.limits)?)
    }

    fn add(&mut self, server: http::Server) -> io::Result<SocketAddr> {
        let address = server.local_addr();
        self.ports.push(server);
        Ok(address)
    }

    fn router(&self) -> Router {
        Router::new().fallback(routes::answer).with_state(self.shared.clone())
    }

    /// The addresses of all ports, in the order they were opened.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(http::Server::local_addr).collect()
    }

    /// The next offer. Cancel safe.
    pub async fn next(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            // Not while `shared` lives, and it does.
            None => std::future::pending().await,
        }
    }
}

/// An offer that waits to be taken. Dropping it tells the client to try again.
pub struct Request {
    /// The keys that were shown; the first that somebody has counts.
    pub keys: Vec<Secret>,
    /// The application, for logs.
    pub app: String,
    /// Who it is.
    pub peer: SocketAddr,
    /// The client's program, as it calls itself.
    pub agent: String,
    offer: String,
    handles: Handles,
    answer: oneshot::Sender<Response>,
}

impl Request {
    /// Takes the offer for the session `resource`, and answers it. The source ends with the client, and its end takes the
    /// session off the list of those that can be asked.
    ///
    /// # Errors
    /// Why the offer is of no use, in words; the client was told.
    pub async fn accept(self, key: &Secret, resource: ResourceId, accept: &Accept) -> Result<Source, Fault> {
        let Self { app, offer, handles, answer, .. } = self;
        let Accepted { sdp, control, begin } = match handles.media.accept(&offer, accept) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let text = refusal.to_string();
                // A client that has gone misses nothing.
                let _ = answer.send(answers::offer(&refusal));
                let passing = matches!(refusal, rtc::Refusal::Full);
                let blame = if passing { Blame::Capacity } else { Blame::Source };
                return Err(Fault { blame, retry: passing, text });
            }
        };
        let etag = resources::etag(&control.ice_session());
        let added = handles.resources.add(resource.clone(), key.clone(), control.clone(), &*handles.control).await;
        let listed = match added {
            Ok(listed) => listed,
            Err(fault) => {
                let _ = answer.send(answers::fault(&fault));
                return Err(fault);
            }
        };
        let mut response = created(&app, key, &resource, &etag, sdp);
        answers::add_links(response.headers_mut(), handles.links.all(&resource.0, SystemTime::now()));
        if answer.send(response).is_err() {
            return Err(Fault::transient(
                Blame::Source,
                "the client closed its connection before its offer was answered",
            ));
        }
        Ok(begin(Box::new(listed)))
    }

    /// How the picture would be coded if all that can be received is taken; `None` where there is none, or nothing to take.
    pub fn first_choice(&self, accept: &Accept) -> Option<VideoFormat> {
        Offer::read(&self.offer, accept).ok()?.video_format().cloned()
    }

    /// Whether one more line may be logged about strangers; if so, how many were left out before it.
    pub fn may_log(&self) -> Option<u64> {
        self.handles.log.may_log()
    }

    /// Sends the client away with the fault's text.
    pub fn reject(self, fault: &Fault) {
        let _ = self.answer.send(answers::fault(fault));
    }
}

/// The answer to an offer that was taken (RFC 9725 §4.2). The path holds the key, as the Go ingress's does: clients that show
/// it only once still find their session.
fn created(app: &str, key: &Secret, resource: &ResourceId, etag: &str, sdp: String) -> Response {
    let mut response = Response::new(Body::from(sdp));
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/{app}/{}/{resource}", key.expose());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(answers::ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    for (name, value) in [(LOCATION, location.as_str()), (ETAG, etag)] {
        // Keys and paths came in a header or a request line themselves, so they fit into one.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}
