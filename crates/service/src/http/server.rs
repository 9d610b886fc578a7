//! An HTTP server with deadlines and bounds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::{Blame, Fault};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Bounds on what connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// For a request's head to arrive.
    pub head: Duration,
    /// For a whole connection: one request and its answer.
    pub connection: Duration,
}

/// Probes and scrapes come a few a minute, and take milliseconds; a slow network needs a second. With these, one who opens
/// connections and is silent must open 50 a second to keep others out.
impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, head: Duration::from_secs(5), connection: Duration::from_secs(10) }
    }
}

/// Bytes of a request's head; a browser with all its cookies stays below.
const LARGEST_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MOST_HEADERS: usize = 100;
/// How long [`Server::stop`] lets answers that are under way go on: a page is written in milliseconds.
const STOP: Duration = Duration::from_secs(1);
/// Pause after a failed accept: it fails for want of descriptors, and those come back within moments.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a port of ours. `key` names it in the configuration.
///
/// # Errors
/// A fault in words for the one who runs this machine.
pub async fn listen(address: IpAddr, port: u16, key: &str) -> Result<TcpListener, Fault> {
    let mut opened = TcpListener::bind((address, port)).await;
    if let (Err(error), true) = (&opened, address.is_unspecified() && address.is_ipv6())
        && error.kind() != io::ErrorKind::AddrInUse
        && error.kind() != io::ErrorKind::PermissionDenied
    {
        // A machine without IPv6.
        opened = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    }
    opened.map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AddrInUse => format!("{key}: port {port} is in use by another program"),
            io::ErrorKind::PermissionDenied => format!(
                "{key}: port {port} may not be opened by this user; take one above 1023, or grant CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => format!("bind_address: {address} is no address of this machine ({key})"),
            _ => format!("{key}: port {port} on {address} cannot be opened: {error}"),
        };
        Fault::new(Blame::Us, text)
    })
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connection, and returns when those there are have their answers, within a second.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // It is gone already if the task is.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on a listener. Needs a tokio runtime.
///
/// # Errors
/// If the listener doesn't know its own address.
pub fn serve(listener: TcpListener, router: Router, limits: Limits) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(run(listener, router, limits, stopped));
    Ok(Server { address, stop: Some(stop), task })
}

async fn run(listener: TcpListener, router: Router, limits: Limits, stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, router, limits, &mut connections) => {}
        _ = stopped => {}
    }
    drop(listener);
    // What isn't done by then is aborted with the set.
    let _ = timeout(STOP, async { while connections.join_next().await.is_some() {} }).await;
}

async fn accept(listener: &TcpListener, router: Router, limits: Limits, connections: &mut JoinSet<()>) {
    let free = Arc::new(Semaphore::new(limits.connections));
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    answer(stream, router, limits).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer.
async fn answer(stream: TcpStream, router: Router, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "an HTTP connection broke"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests;
