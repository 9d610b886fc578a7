//! A publisher over RTMP that waits for its answer.

use crate::boxed::BoxFuture;
use crate::inputs::request::{PublishRequest, PublishTarget, Publisher};
use crate::sessions::admitted::Admitted;
use model::{Fault, InputKind, LogBudget, Secret};
use session::{Source, SourceEnd, SourceEvent, SourceFeed, source};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An encoder that asks to publish. Dropping it refuses the publisher.
#[derive(Debug)]
pub struct Request {
    /// What may be the stream key, the likeliest first.
    pub keys: Vec<Secret>,
    /// The application, for logs.
    pub app: Secret,
    /// The encoder's address.
    pub peer: SocketAddr,
    /// The encoder's program, as it calls itself.
    pub encoder: Option<String>,
    pub(super) log: Arc<LogBudget>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The answer that reaches the connection of a [`Request`].
#[derive(Debug)]
pub(super) enum Answer {
    /// Deliver media here.
    Accept(SourceFeed),
    /// Send the encoder away.
    Reject(Fault),
}

impl Request {
    /// Lets the publisher send media. If it has gone meanwhile, the source ends at once.
    pub fn accept(self) -> Source {
        let (feed, source) = source();
        if let Err(Answer::Accept(feed)) = self.answer.send(Answer::Accept(feed)) {
            // The queue is new and empty.
            let _ = feed.events.try_send(SourceEvent::Ended(SourceEnd::Finished));
        }
        source
    }

    /// Sends the publisher away with the fault's text.
    pub fn reject(self, fault: Fault) {
        // A publisher that has gone needs no answer.
        let _ = self.answer.send(Answer::Reject(fault));
    }

    /// Resolves when the publisher has gone, or has waited too long.
    pub async fn withdrawn(&mut self) {
        self.answer.closed().await;
    }
}

impl PublishRequest for Request {
    fn input(&self) -> InputKind {
        InputKind::Rtmp
    }

    fn wanted(&self) -> PublishTarget {
        PublishTarget::Keys(self.keys.clone())
    }

    fn publisher(&self) -> Publisher {
        Publisher { peer: Some(self.peer), encoder: self.encoder.clone().unwrap_or_default(), app: self.app.clone() }
    }

    fn log_budget(&self) -> Arc<LogBudget> {
        self.log.clone()
    }

    fn accept(self: Box<Self>, _: &mut Admitted) -> BoxFuture<'_, Result<Option<Source>, Fault>> {
        let source = Request::accept(*self);
        Box::pin(async { Ok(Some(source)) })
    }

    fn reject(self: Box<Self>, fault: Fault) {
        Request::reject(*self, fault);
    }
}
