//! What a session tells the control plane: its statistics, and when to report them.

use crate::session_stats::SessionStats;
use crate::throttle::Throttle;
use crate::{Report, Status};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How long the last report may wait for a full queue.
const LAST_REPORT_WAIT: Duration = Duration::from_secs(5);
/// How often changes of the source are reported. A source may change its size with every picture.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Reports {
    /// What is known of the session.
    pub(super) stats: SessionStats,
    /// What does not get through while the session publishes, in words.
    pub(super) trouble: String,
    changes: Throttle,
    queue: mpsc::Sender<Report>,
}

impl Reports {
    /// Nothing is reported yet.
    pub(super) fn new(stats: SessionStats, queue: mpsc::Sender<Report>) -> Self {
        Self { stats, trouble: String::new(), changes: Throttle::new(CHANGE_INTERVAL), queue }
    }

    /// Reports a status, with a text where it is an error. Waits only with the last report.
    pub(super) async fn status(&mut self, status: Status, error: String) {
        let report = self.stats.report(status, error, SystemTime::now());
        info!(status = ?report.status, error = %report.error, "session state");
        if status.is_final() {
            let sent = tokio::time::timeout(LAST_REPORT_WAIT, self.queue.send(report)).await;
            if !matches!(sent, Ok(Ok(()))) {
                warn!("the last report could not be handed over");
            }
        } else if self.queue.try_send(report).is_err() {
            warn!(?status, "a report was dropped: the control plane takes none");
        }
    }

    /// The statistics have changed while the status stays PUBLISHING.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.changes.changed(now) {
            self.send();
        }
    }

    /// When to call [`Reports::tick`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.changes.due()
    }

    /// Reports a change that came too soon behind another, if the status still is PUBLISHING.
    pub(super) fn tick(&mut self, publishing: bool, now: Instant) {
        if self.changes.tick(now) && publishing {
            self.send();
        }
    }

    fn send(&mut self) {
        let report = self.stats.report(Status::Publishing, self.trouble.clone(), SystemTime::now());
        // The next report has all of it: one that is dropped is no loss.
        let _ = self.queue.try_send(report);
    }
}
