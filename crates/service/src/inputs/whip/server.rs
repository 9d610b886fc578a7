//! The WHIP server's ports (RFC 9725): HTTP in front of the WebRTC endpoint.
//!
//! [`Server::next`] yields a [`Request`] for every offer; who holds it answers with [`Request::accept`] or
//! [`Request::reject`]. What a client asks of its session afterwards (DELETE, PATCH) is answered by `routes`, also for sessions
//! of other machines, which are asked over the control plane.

use super::handles::Handles;
use super::ice_servers::IceServers;
use super::media::Media;
use super::request::Request;
use super::resources::Resources;
use super::routes;
use super::shared::Shared;
use crate::boxed::BoxFuture;
use crate::control::ControlPlane;
use crate::http;
use crate::inputs::listener::Listener;
use crate::inputs::request::PublishRequest;
use crate::load::Capacity;
use crate::tls::Tls;
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Offers that may wait for [`Server::next`], which is called again at once. Those beyond are refused for the moment.
const REQUEST_QUEUE: usize = 64;

/// How long a connection is used for further requests: candidates trickle for seconds, a session lasts for hours.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(30);

/// What a server is made with.
pub struct Parts {
    /// Receives the media of offers.
    pub media: Arc<dyn Media>,
    /// Reaches the sessions of other machines.
    pub control: Arc<dyn ControlPlane>,
    /// For `/availability`.
    pub capacity: Capacity,
    /// STUN and TURN servers for clients.
    pub ice_servers: IceServers,
    /// Connections at a time, on each port.
    pub max_connections: usize,
    /// Connections at a time from one address, on each port.
    pub max_connections_per_address: usize,
    /// The proxies that tell whose request they pass on.
    pub proxies: http::Proxies,
}

/// The server. Dropping it closes the ports; sessions go on.
pub struct Server {
    shared: Arc<Shared>,
    limits: http::Limits,
    proxies: Arc<http::Proxies>,
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
            connection: CONNECTION_LIFETIME,
            keep_alive: true,
            ..http::Limits::default()
        };
        let Parts { media, control, capacity, ice_servers, proxies, .. } = parts;
        let (resources, log) = (Resources::default(), Arc::default());
        let handles = Handles { media, control, ice_servers: Arc::new(ice_servers), resources, log };
        let shared = Shared { handles, capacity, requests };
        Self { shared: Arc::new(shared), limits, proxies: Arc::new(proxies), requests: receiver, ports: Vec::new() }
    }

    /// Serves HTTP on this listener.
    ///
    /// # Errors
    /// The listener doesn't know its own address.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.open(listener, None)
    }

    /// Serves HTTPS on this listener.
    ///
    /// # Errors
    /// The listener doesn't know its own address.
    pub(crate) fn listen_tls(&mut self, listener: TcpListener, tls: Tls) -> io::Result<SocketAddr> {
        self.open(listener, Some(tls))
    }

    fn open(&mut self, listener: TcpListener, tls: Option<Tls>) -> io::Result<SocketAddr> {
        let server = http::serve_behind(listener, tls, self.router(), self.limits, self.proxies.clone())?;
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

impl Listener for Server {
    fn name(&self) -> &'static str {
        "whip"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        Server::addresses(self)
    }

    fn next(&mut self) -> BoxFuture<'_, Box<dyn PublishRequest>> {
        Box::pin(async { Box::new(Server::next(self).await) as Box<dyn PublishRequest> })
    }
}
