//! What the service holds of each input: something that yields publishers.

use super::request::PublishRequest;
use crate::boxed::BoxFuture;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;

/// One input, open. Dropping it closes its ports; sessions go on.
pub trait Listener: Send {
    /// The input's name, for log lines.
    fn name(&self) -> &'static str;

    /// The addresses of its ports, in the order they were opened; empty where it has none.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// The next publisher. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Box<dyn PublishRequest>>;

    /// Attracts no more publishers. Those that come all the same are still yielded, so that they can be refused.
    fn drain(&mut self) {}
}

/// All inputs that are open.
pub struct Listeners {
    all: Vec<Box<dyn Listener>>,
    /// Which is asked first: each in turn, so that a flood of one input does not keep the others out.
    first: usize,
}

impl Listeners {
    /// These inputs.
    pub fn new(all: Vec<Box<dyn Listener>>) -> Self {
        Self { all, first: 0 }
    }

    /// The next publisher of any input. Cancel safe.
    pub async fn next(&mut self) -> Box<dyn PublishRequest> {
        let count = self.all.len().max(1);
        let first = self.first % count;
        self.first = (first + 1) % count;
        let mut waiting: Vec<_> = self.all.iter_mut().map(|listener| listener.next()).collect();
        waiting.rotate_left(first);
        poll_fn(|cx| {
            let ready = waiting.iter_mut().find_map(|next| match next.as_mut().poll(cx) {
                Poll::Ready(request) => Some(request),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Attracts no more publishers; see [`Listener::drain`].
    pub fn drain(&mut self) {
        self.all.iter_mut().for_each(|listener| listener.drain());
    }
}

/// The names and addresses of all inputs that have ports.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for listener in &self.all {
            for address in listener.addresses() {
                write!(f, "{separator}{} {address}", listener.name())?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
