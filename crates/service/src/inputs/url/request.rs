//! A URL that waits for its answer: livekit-server asks for it to be pulled.

use super::job;
use crate::boxed::BoxFuture;
use crate::config::UrlConfig;
use crate::control::StartRequest;
use crate::inputs::request::{PublishRequest, PublishTarget, Publisher};
use crate::sessions::admitted::Admitted;
use model::{Blame, Fault, IngressSpec, InputKind, LogBudget};
use session::registry::Registry;
use session::workers::Workers;
use session::{Source, demuxed_source};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a request to pull may take to be answered: livekit-server asks another machine after 3 s.
const ANSWER_DEADLINE: Duration = Duration::from_millis(2_500);

/// See the [module](self).
pub(super) struct Request {
    start: StartRequest,
    answer_by: Instant,
    config: Arc<UrlConfig>,
    workers: Arc<dyn Workers>,
    pulls: Pulls,
    log: Arc<LogBudget>,
}

/// The pulls that run on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls(pub(super) Registry);

impl Pulls {
    /// How many there are. One that begins is among them.
    fn count(&self) -> usize {
        self.0.list().iter().filter(|entry| entry.input == InputKind::Url).count()
    }
}

impl Request {
    /// A request that has just arrived.
    pub(super) fn new(
        start: StartRequest,
        config: Arc<UrlConfig>,
        workers: Arc<dyn Workers>,
        pulls: Pulls,
        log: Arc<LogBudget>,
    ) -> Self {
        Self { start, answer_by: Instant::now() + ANSWER_DEADLINE, config, workers, pulls, log }
    }

    /// Starts the worker that pulls and makes the ingress known. `None` where its session runs already: a request whose answer
    /// came too late is made again.
    async fn begin(&mut self, admitted: &Admitted) -> Result<Option<Source>, Fault> {
        if admitted.runs_already() {
            return Ok(None);
        }
        let mut job = job::job(&self.config, &self.start.resolved.spec)?;
        job.live_only = self.start.resolved.is_handed_over();
        // They may have changed since the start of this program.
        job.guard.own.extend(rtc::machine_addresses());
        if self.pulls.count() > self.config.temporary_files as usize {
            job.limits.temporary = 0;
        }
        // First what may fail: an ingress that is known can't be taken back, and nobody would know its id.
        let source = demuxed_source::from_url(self.workers.clone(), job)
            .map_err(|e| Fault::transient(Blame::Us, format!("the worker that pulls could not be started: {e}")))?;
        let late = || Fault::transient(Blame::Control, "livekit-server did not take the ingress in time");
        timeout_at(self.answer_by, self.start.create_ingress()).await.map_err(|_| late())??;
        Ok(Some(source))
    }
}

impl PublishRequest for Request {
    fn input(&self) -> InputKind {
        InputKind::Url
    }

    fn wanted(&self) -> PublishTarget {
        PublishTarget::Ingress(Box::new(self.start.resolved.clone()))
    }

    fn publisher(&self) -> Publisher {
        Publisher::default()
    }

    fn log_budget(&self) -> Arc<LogBudget> {
        self.log.clone()
    }

    fn check(&self, spec: &IngressSpec) -> Result<(), Fault> {
        job::job(&self.config, spec).map(drop)
    }

    fn accept(mut self: Box<Self>, admitted: &mut Admitted) -> BoxFuture<'_, Result<Option<Source>, Fault>> {
        Box::pin(async move {
            let begun = self.begin(admitted).await;
            match &begun {
                Ok(_) => self.start.accept(admitted.state()),
                Err(fault) => self.start.reject(fault.clone()),
            }
            begun
        })
    }

    fn reject(self: Box<Self>, fault: Fault) {
        self.start.reject(fault);
    }
}

#[cfg(test)]
mod tests;
