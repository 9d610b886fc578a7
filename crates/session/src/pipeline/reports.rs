//! What a session tells the control plane, and what it is told.

use super::{Driver, now};
use crate::Status;
use crate::lifecycle::{Input, Stop};
use crate::registry::Command;
use model::{Blame, Fault};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// How long a last report may wait for a full queue.
const LAST_REPORT: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) async fn report(&mut self, status: Status, error: String) {
        let report = self.facts.report(status, error, SystemTime::now());
        info!(status = ?report.status, error = %report.error, "session state");
        if status.is_final() {
            let sent = tokio::time::timeout(LAST_REPORT, self.reports.send(report)).await;
            if !matches!(sent, Ok(Ok(()))) {
                warn!("the last report found no taker");
            }
        } else if self.reports.try_send(report).is_err() {
            warn!(?status, "a report was dropped: the control plane takes none");
        }
    }

    /// Something the control plane shows has changed while its status stays.
    pub(super) fn report_facts(&mut self) {
        if self.session.running() && self.session.status() == Status::Publishing && self.news.news(now()) {
            self.send_facts();
        }
    }

    fn send_facts(&mut self) {
        let report = self.facts.report(Status::Publishing, String::new(), SystemTime::now());
        let _ = self.reports.try_send(report);
    }

    /// Tells what came too soon behind what was told before.
    pub(super) fn tell_news(&mut self) {
        if self.news.tell(now()) && self.session.running() {
            self.send_facts();
        }
        if self.splices.tell(now()) {
            self.show_splice();
        }
    }

    pub(super) fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Stop(stop)) => self.step(Input::Stop(stop)),
            Some(Command::TakeOver(source)) if self.session.running() => {
                info!("another encoder takes over");
                let words = Fault::new(Blame::Access, "another encoder has connected with the same stream key");
                if let Some(old) = self.source.replace(source) {
                    let _ = old.stop.send(Some(words));
                }
                self.timeline.restart();
                self.gop.clear();
                self.doze.restart(&[], now());
                self.skipping = true;
            }
            Some(Command::TakeOver(source)) => source.too_late(),
            None => self.step(Input::Stop(Stop::Shutdown)),
        }
    }
}
