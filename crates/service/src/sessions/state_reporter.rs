//! Carries a session's reports to the control plane and commands to the session, one after the other, so that nothing is
//! reported after a deletion was answered.

use crate::control::{ControlPlane, ReportError, SessionCommand, SessionCommands};
use session::lifecycle::Stop;
use session::registry::{Command, Entry, Registry};
use session::{Report, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// How long a last report is retried while the control plane is unreachable. Redis and livekit-server are back from a restart
/// within seconds; an operator who repairs something needs minutes.
const LAST_REPORT_RETRIES_FOR: Duration = Duration::from_secs(120);
/// The wait before a report is retried, which doubles with each retry. A livekit-server that restarts is back within seconds.
const FIRST_RETRY_BACKOFF: Duration = Duration::from_millis(500);
/// The longest such wait: a retry every ten seconds costs nothing.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(super) struct StateReporter {
    control: Arc<dyn ControlPlane>,
    registry: Registry,
    entry: Entry,
    commands: SessionCommands,
    /// Whether the ingress is gone: nothing is reported any more.
    deleted: bool,
    newest: Option<Report>,
    /// When to retry the newest report, and how long the wait for that is.
    retry: Option<(Instant, Duration)>,
}

impl StateReporter {
    pub(super) fn new(
        control: Arc<dyn ControlPlane>,
        registry: Registry,
        entry: Entry,
        commands: SessionCommands,
    ) -> Self {
        Self { control, registry, entry, commands, deleted: false, newest: None, retry: None }
    }

    /// Works until the session has ended, and its last report is stored or given up.
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut commanded = true;
        loop {
            let retry = self.retry;
            let time = async {
                match retry {
                    Some((at, _)) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = self.commands.recv(), if commanded => match command {
                    Some(command) => self.command(command),
                    None => commanded = false,
                },
                report = reports.recv() => match report {
                    Some(report) => self.report(report).await,
                    None => return self.check_end().await,
                },
                () = time => self.try_report().await,
            }
        }
    }

    fn command(&mut self, command: SessionCommand) {
        let (stop, reply) = match command {
            SessionCommand::Update { reply } => (Stop::Updated, reply),
            SessionCommand::Delete { reply } => (Stop::Deleted, reply),
        };
        info!(?stop, "the control plane ends the session");
        self.deleted |= stop == Stop::Deleted;
        // The one that runs now: while this session's last report is retried, the ingress may have another.
        let running = self.registry.get(&self.entry.ingress_id).unwrap_or_else(|| self.entry.clone());
        if running.tell(Command::Stop(stop)).is_err() {
            warn!("the session is ending already, or its command queue is full");
        }
        if let Some(newest) = &self.newest {
            reply.send(Report { status: Status::Inactive, error: String::new(), ..newest.clone() });
        }
    }

    async fn report(&mut self, report: Report) {
        let is_final = report.status.is_final();
        (self.newest, self.retry) = (Some(report), None);
        if is_final {
            self.report_last().await;
        } else {
            self.try_report().await;
        }
    }

    /// Reports the newest state; schedules a retry where one can help.
    async fn try_report(&mut self) {
        let waited = self.retry.take().map(|(_, waited)| waited);
        let Some(report) = self.newest.as_ref().filter(|_| !self.deleted) else { return };
        match self.control.report(&self.entry.ingress_id, report).await {
            Ok(()) => {}
            Err(ReportError::Deleted) => {
                info!("the ingress was deleted: the session ends and reports no more");
                self.deleted = true;
                let _ = self.entry.tell(Command::Stop(Stop::Deleted));
            }
            Err(e @ ReportError::Older) => warn!(error = %e, "this session's state is not stored"),
            Err(ReportError::Unreachable(fault)) => {
                warn!(status = ?report.status, error = %fault, "a state could not be stored");
                if fault.retry {
                    let wait = waited.map_or(FIRST_RETRY_BACKOFF, |w| (w * 2).min(MAX_RETRY_BACKOFF));
                    self.retry = Some((Instant::now() + wait, wait));
                }
            }
        }
    }

    /// Reports the last state, which stays in the store: retries it for a while, until a deletion comes, or another session of
    /// the ingress, whose states count now.
    async fn report_last(&mut self) {
        let until = Instant::now() + LAST_REPORT_RETRIES_FOR;
        self.try_report().await;
        while let Some((at, _)) = self.retry.filter(|(at, _)| *at < until) {
            if self.registry.get(&self.entry.ingress_id).is_some_and(|e| e.resource_id != self.entry.resource_id) {
                return;
            }
            tokio::select! {
                () = sleep_until(at) => self.try_report().await,
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => sleep_until(at).await,
                },
            }
        }
    }

    /// A session that ended without a last report (its task panicked) is an error, and must not stand as PUBLISHING.
    async fn check_end(&mut self) {
        let Some(last) = self.newest.clone().filter(|last| !self.deleted && !last.status.is_final()) else { return };
        let error = "the session ended by a fault of this server; connect again, and please report this".to_owned();
        let at = last.updated_at + 1;
        self.report(Report { status: Status::Error, error, ended_at: at, updated_at: at, ..last }).await;
    }
}

#[cfg(test)]
mod tests;
