//! Carries a session's reports to the control plane and commands to the session, one after the other, so that nothing is
//! reported after a deletion was answered. What to report when, [`Reporting`] decides.

use super::reporting::{Action, Reporting};
use super::turns::Turns;
use crate::boxed::BoxFuture;
use crate::control::{ControlPlane, HandOverError, ReportError, SessionCommand, SessionCommands, StoredIngress};
use crate::recovery::Recorded;
use model::{Fault, IngressSpec};
use session::lifecycle::Stop;
use session::registry::{Command, Entry, Registry};
use session::{Portable, Report, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

/// How long the first report waits until the session stands in this instance's record: should this process end in between, nobody
/// else would know of it. Redis answers within a millisecond, unless it is away, and then no report gets through either.
const RECORD_WAIT: Duration = Duration::from_secs(1);
/// How long to look, before a command is answered, whether it is for another instance. livekit-server waits for 3 s.
const LOOK_BEFORE_ANSWER: Duration = Duration::from_secs(1);
/// How often to look whether the ingress has another session here, while a last report can't be stored.
const REPLACED_POLL: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(super) struct StateReporter {
    control: Arc<dyn ControlPlane>,
    registry: Registry,
    entry: Entry,
    /// `None` once commands are another instance's to answer.
    commands: Option<SessionCommands>,
    reporting: Reporting,
    recorded: Recorded,
    pull: Pull,
}

/// What a session that pulls needs to be handed over to another instance.
pub(super) struct Pull {
    /// Whether another could go on where this one is.
    pub(super) portable: Portable,
    /// Whether this instance drains.
    pub(super) drains: watch::Receiver<bool>,
    /// When the others may be asked.
    pub(super) turns: Arc<Turns>,
}

/// How a call ended.
enum Answer {
    Reported(Result<(), ReportError>),
    Found(Box<Result<Option<StoredIngress>, Fault>>),
    Asked(Result<Report, HandOverError>),
}

impl StateReporter {
    pub(super) fn new(
        control: Arc<dyn ControlPlane>,
        registry: Registry,
        (entry, spec): (Entry, IngressSpec),
        commands: SessionCommands,
        recorded: Recorded,
        pull: Pull,
    ) -> Self {
        let reporting = Reporting::new(entry.resource_id.clone(), spec, recorded.started_at());
        Self { control, registry, entry, commands: Some(commands), reporting, recorded, pull }
    }

    /// Works until the session has ended, and its last report is stored or of no interest any more.
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        if timeout(RECORD_WAIT, self.recorded.written()).await.is_err() {
            warn!("this instance's record can't be written: should it end now, nobody would notice");
        }
        let mut call: Option<BoxFuture<'static, Answer>> = None;
        let (mut open, mut drains) = (true, false);
        loop {
            self.reporting.set_portable(self.pull.portable.get());
            while let Some(action) = self.reporting.action(now()) {
                match action {
                    Action::Stop(stop) => self.stop(stop),
                    Action::Report(report) => call = Some(self.store(report)),
                    Action::Look => call = Some(self.look()),
                    Action::HandOver(state) => match self.pull.turns.take(now()) {
                        Ok(()) => call = Some(self.ask_others(state)),
                        Err(later) => self.reporting.ask_later(later),
                    },
                }
            }
            self.note();
            if self.reporting.is_over() {
                return self.finish();
            }
            let deadline = self.deadline(open);
            tokio::select! {
                biased;
                answer = answered(&mut call) => {
                    call = None;
                    self.on_answer(answer);
                }
                // A report that is under way may overtake the answer to a deletion.
                command = next(&mut self.commands), if call.is_none() || self.reporting.is_asking() => match command {
                    Some(command) => self.command(command).await,
                    None => self.commands = None,
                },
                report = reports.recv(), if open => match report {
                    Some(report) => self.reporting.report(report),
                    None => {
                        open = false;
                        self.reporting.ended();
                    }
                },
                loss = self.recorded.lost() => self.reporting.lost(loss, now()),
                () = draining(&mut self.pull.drains), if !drains => {
                    drains = true;
                    self.reporting.drains(now());
                }
                () = sleep_until(deadline) => {}
            }
            if !open && self.is_replaced() {
                self.reporting.replaced();
            }
        }
    }

    fn deadline(&self, open: bool) -> Instant {
        let far = Instant::now() + if open { Duration::from_secs(3600) } else { REPLACED_POLL };
        self.reporting.deadline().map_or(far, |at| far.min(at.into()))
    }

    /// Whether the ingress has another session here, whose states count now.
    fn is_replaced(&self) -> bool {
        self.registry.get(&self.entry.ingress_id).is_some_and(|e| e.resource_id != self.entry.resource_id)
    }

    fn store(&self, report: Report) -> BoxFuture<'static, Answer> {
        let (control, ingress) = (self.control.clone(), self.entry.ingress_id.clone());
        Box::pin(async move { Answer::Reported(control.report(&ingress, &report).await) })
    }

    fn look(&self) -> BoxFuture<'static, Answer> {
        let (control, ingress) = (self.control.clone(), self.entry.ingress_id.clone());
        Box::pin(async move { Answer::Found(Box::new(control.stored(&ingress).await)) })
    }

    fn ask_others(&self, state: Report) -> BoxFuture<'static, Answer> {
        let (control, ingress) = (self.control.clone(), self.entry.ingress_id.clone());
        Box::pin(async move { Answer::Asked(control.hand_over(&ingress, &state).await) })
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Reported(answer) => {
                if let Err(error) = &answer {
                    let status = self.reporting.newest().map(|newest| newest.status);
                    warn!(?status, %error, "a state could not be stored");
                }
                self.reporting.answered(&answer, now());
            }
            Answer::Found(found) => {
                if let Err(error) = found.as_ref() {
                    warn!(%error, "what is stored of the ingress could not be looked at");
                }
                self.reporting.found(*found, now());
            }
            Answer::Asked(answer) => {
                match &answer {
                    Ok(theirs) => info!(taken_over_by = %theirs.resource_id, "another instance goes on with this pull"),
                    Err(HandOverError::NotTaken(fault)) => debug!(%fault, "no other instance takes this pull over"),
                    Err(error) => warn!(%error, "whether another instance takes this pull over is not known"),
                }
                self.reporting.asked(&answer, now());
            }
        }
    }

    /// Keeps the record of this instance as it should be found once this process is gone.
    fn note(&self) {
        self.recorded.set(self.reporting.started_at(), self.reporting.undelivered_end());
    }

    fn finish(self) {
        if let Some(end) = self.reporting.stored_end() {
            self.recorded.finish(end.clone());
        }
    }

    fn stop(&self, stop: Stop) {
        info!(?stop, "what is stored of the ingress ends the session");
        if self.entry.tell(Command::Stop(stop)).is_err() && !self.entry.is_ending() {
            warn!("the session's command queue is full");
        }
    }

    /// Ends the session, and answers; where another instance has the session that counts, with its answer.
    async fn command(&mut self, command: SessionCommand) {
        let (stop, reply) = match command {
            SessionCommand::Update { reply } => (Stop::Updated, reply),
            SessionCommand::Delete { reply } => (Stop::Deleted, reply),
        };
        info!(?stop, "the control plane ends the session");
        self.reporting.told(stop);
        // The one that runs now: while this session's last report is retried, the ingress may have another.
        let running = self.registry.get(&self.entry.ingress_id).unwrap_or_else(|| self.entry.clone());
        if running.tell(Command::Stop(stop)).is_err() {
            warn!("the session is ending already, or its command queue is full");
        }
        if let Some(state) = self.passed_on(stop).await {
            reply.send(state);
        } else if let Some(newest) = self.reporting.newest() {
            reply.send(Report { status: Status::Inactive, error: String::new(), ..newest.clone() });
        }
    }

    /// Has another instance answer a command, if the session that counts runs there: of several that take commands for an ingress
    /// any may get one.
    async fn passed_on(&mut self, stop: Stop) -> Option<Report> {
        let looked = timeout(LOOK_BEFORE_ANSWER, self.control.stored(&self.entry.ingress_id)).await;
        let stored = looked.ok()?.ok()??.state?;
        let here = |running: &Entry| running.resource_id == stored.resource_id;
        let is_here = self.registry.get(&self.entry.ingress_id).as_ref().is_some_and(here);
        if is_here || !self.reporting.gives_way_to(Some(&stored)) {
            return None;
        }
        self.commands = None;
        match self.control.pass_on(&self.entry.ingress_id, stop).await {
            Ok(state) => Some(state),
            Err(error) => {
                warn!(%error, ?stop, "the instance that runs this ingress now did not take a command");
                None
            }
        }
    }
}

/// The time by tokio's clock, so that tests can run on virtual time.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Resolves when a call that is under way has ended. Cancel safe.
async fn answered(call: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Resolves when this instance drains. Cancel safe.
async fn draining(drains: &mut watch::Receiver<bool>) {
    if drains.wait_for(|drains| *drains).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The next command; never where none can come any more. Cancel safe.
async fn next(commands: &mut Option<SessionCommands>) -> Option<SessionCommand> {
    match commands {
        Some(commands) => commands.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
