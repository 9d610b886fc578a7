//! What this instance's record says: its sessions put themselves in and take themselves out.

use crate::control::RecordedSession;
use model::{IngressId, ResourceId};
use session::Report;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long an end that was stored is remembered, in case Redis loses it. A replica that becomes the master lacks what was written in
/// the second before, and the outage takes some more.
const FINISHED_KEPT: Duration = Duration::from_secs(120);
/// The most that are: an instance carries fewer sessions.
const MAX_FINISHED: usize = 256;

/// Why what is stored may not be what was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// This instance was held for so long that others took it for dead.
    Held,
    /// Redis was away or has lost it, and may have lost more.
    Forgotten,
}

/// See the module. Clones share one.
#[derive(Clone, Debug)]
pub struct Ledger {
    sessions: Arc<Mutex<BTreeMap<ResourceId, RecordedSession>>>,
    /// Sessions whose end was stored, and when: newest last.
    finished: Arc<Mutex<VecDeque<(Instant, RecordedSession)>>>,
    /// Rises with each change.
    changed: watch::Sender<u64>,
    /// The change that was written last. `None` while nobody keeps the record.
    written: watch::Sender<Option<u64>>,
    /// How often the record was not there any more, and why the last time.
    lost: watch::Sender<(u64, Loss)>,
}

impl Default for Ledger {
    /// Empty, and kept by nobody.
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            finished: Arc::default(),
            changed: watch::Sender::new(0),
            written: watch::Sender::new(None),
            lost: watch::Sender::new((0, Loss::Forgotten)),
        }
    }
}

impl Ledger {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<ResourceId, RecordedSession>> {
        // Held for single map operations only, which cannot leave it half done.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> u64 {
        self.changed.send_modify(|count| *count += 1);
        *self.changed.borrow()
    }

    /// Puts a session in that begins at `started_at`, or later than those before it that have not come to rest, until the result is
    /// dropped.
    pub(crate) fn enter(&self, ingress_id: IngressId, resource_id: ResourceId, started_at: i64) -> Recorded {
        let before = self.sessions().values().filter(|s| s.ingress_id == ingress_id).map(|s| s.started_at).max();
        let started_at = before.map_or(started_at, |before| started_at.max(before.saturating_add(1)));
        let session = RecordedSession { ingress_id, resource_id: resource_id.clone(), started_at, end: None };
        self.sessions().insert(resource_id.clone(), session);
        let (entered, lost) = (self.change(), self.lost.subscribe());
        Recorded { ledger: self.clone(), resource_id, started_at, entered, lost }
    }

    /// What the record says now, and which change that is.
    pub(super) fn read(&self) -> (Vec<RecordedSession>, u64) {
        let change = *self.changed.borrow();
        (self.sessions().values().cloned().collect(), change)
    }

    /// What the record says now.
    #[cfg(test)]
    pub(crate) fn noted(&self) -> Vec<RecordedSession> {
        self.read().0
    }

    /// Somebody keeps the record from now on.
    pub(super) fn kept(&self) {
        self.written.send_replace(Some(0));
    }

    /// The record is stored as it was at this change.
    pub(super) fn written(&self, change: u64) {
        self.written.send_replace(Some(change));
    }

    /// Sessions whose end was stored so lately that Redis may have lost it.
    pub(super) fn finished(&self) -> Vec<RecordedSession> {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.retain(|(at, _)| at.elapsed() < FINISHED_KEPT);
        finished.iter().map(|(_, session)| session.clone()).collect()
    }

    /// What was stored may be lost.
    pub(super) fn losses(&self) -> watch::Receiver<(u64, Loss)> {
        self.lost.subscribe()
    }

    /// The record was not there any more.
    pub(super) fn lost(&self, loss: Loss) {
        self.lost.send_modify(|(count, why)| (*count, *why) = (*count + 1, loss));
    }

    /// Changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A session in the ledger. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Recorded {
    ledger: Ledger,
    resource_id: ResourceId,
    started_at: i64,
    entered: u64,
    lost: watch::Receiver<(u64, Loss)>,
}

impl Recorded {
    /// When the session begins.
    pub(crate) fn started_at(&self) -> i64 {
        self.started_at
    }

    /// Resolves once the stored record has this session; at once where nobody keeps the record. Cancel safe.
    pub(crate) async fn written(&self) {
        let has = |written: &Option<u64>| written.is_none_or(|change| change >= self.entered);
        // The sender lives in the ledger.
        let _ = self.ledger.written.subscribe().wait_for(has).await;
    }

    /// Resolves when the record was found removed or lost. Cancel safe.
    pub(crate) async fn lost(&mut self) -> Loss {
        if self.lost.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.lost.borrow_and_update().1
    }

    /// The session's end is stored.
    pub(crate) fn finish(self, end: Report) {
        let Some(session) = self.ledger.sessions().remove(&self.resource_id) else { return };
        let mut finished = self.ledger.finished.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.len() >= MAX_FINISHED {
            finished.pop_front();
        }
        finished.push_back((Instant::now(), RecordedSession { end: Some(end), ..session }));
    }

    /// Notes when the session began, and its last report where that could not be stored.
    pub(crate) fn set(&self, started_at: i64, end: Option<&Report>) {
        let mut sessions = self.ledger.sessions();
        let Some(session) = sessions.get_mut(&self.resource_id) else { return };
        if session.started_at != started_at || session.end.as_ref() != end {
            (session.started_at, session.end) = (started_at, end.cloned());
            drop(sessions);
            self.ledger.change();
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.ledger.sessions().remove(&self.resource_id);
        self.ledger.change();
    }
}
