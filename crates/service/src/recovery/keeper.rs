//! Keeps this instance's record, and puts the sessions of instances right that are gone.
//!
//! Two tasks, so that neither a livekit-server that does not answer nor many sessions of others keep this instance's own record from
//! being written in time.

use super::closing::closing;
use super::detector::Detector;
use super::{BEAT_INTERVAL, GOOD_FOR, Ledger, Loss};
use crate::control::{ControlPlane, Instances, Record, RecordedSession, ReportError};
use model::{Blame, Fault};
use session::time::unix_nanos;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

/// How long the end of the process waits until its record is removed, or says that it has ended.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

/// See the [module](self). Dropping it stops both tasks.
pub(crate) struct Keeper {
    instances: Arc<dyn Instances>,
    own: String,
    ledger: Ledger,
    tasks: [JoinHandle<()>; 2],
}

impl Keeper {
    /// Keeps the record of the instance `own`, which no other may be called.
    pub(crate) fn start(control: Arc<dyn ControlPlane>, own: String, ledger: Ledger) -> Self {
        let instances = control.instances();
        ledger.kept();
        let tasks = [
            tokio::spawn(write(instances.clone(), own.clone(), ledger.clone())),
            tokio::spawn(watch(control, instances.clone(), own.clone(), ledger.clone())),
        ];
        Self { instances, own, ledger, tasks }
    }

    /// Ends it. What could not be stored of sessions stays in the record, for whoever finds it.
    pub(crate) async fn say_goodbye(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let (sessions, _) = self.ledger.read();
        let left = sessions.len();
        let goodbye = async {
            if sessions.is_empty() {
                return self.instances.remove(&self.own).await;
            }
            let record = Record { beat: u64::MAX, good_for: GOOD_FOR, ended: true, sessions };
            self.instances.write(&self.own, &record).await.map(drop)
        };
        let late = || Err(Fault::transient(Blame::Control, "it took too long"));
        match timeout(GOODBYE_DEADLINE, goodbye).await.unwrap_or_else(|_| late()) {
            Ok(()) if left == 0 => {}
            Ok(()) => {
                warn!(left, "ends of sessions are not stored yet: another instance, or the next start, stores them")
            }
            Err(error) => warn!(%error, "this instance's record stays until others find that it has ended"),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Writes the record at each change, and so often that nobody takes this instance for gone.
async fn write(instances: Arc<dyn Instances>, own: String, ledger: Ledger) {
    let (mut changes, mut beats) = (ledger.changes(), beats());
    let (mut beat, mut stored_at, mut failing) = (0, None::<Instant>, false);
    let (mut turn, mut held_at) = (Instant::now(), None::<Instant>);
    loop {
        tokio::select! {
            _ = changes.changed() => {}
            _ = beats.tick() => {}
        }
        changes.mark_unchanged();
        // A turn takes the interval and the deadline of a call at most, unless somebody holds this process.
        if turn.elapsed() > GOOD_FOR / 2 {
            held_at = Some(Instant::now());
        }
        turn = Instant::now();
        beat += 1;
        let (sessions, change) = ledger.read();
        let record = Record { beat, good_for: GOOD_FOR, ended: false, sessions };
        match instances.write(&own, &record).await {
            Ok(absent) => {
                ledger.written(change);
                if let Some(at) = stored_at.filter(|_| absent || failing) {
                    let held = held_at.is_some_and(|at| at.elapsed() < GOOD_FOR);
                    let loss = if held { Loss::Held } else { Loss::Forgotten };
                    info!(?loss, removed = absent, last = ?at.elapsed(), "the states of sessions are looked at again");
                    ledger.lost(loss);
                }
                (stored_at, failing) = (Some(Instant::now()), false);
            }
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "this instance's record can't be written; should it be killed now, its streams stand as PUBLISHING");
            }
            Err(_) => {}
        }
    }
}

/// Looks for records of instances that are gone.
async fn watch(control: Arc<dyn ControlPlane>, instances: Arc<dyn Instances>, own: String, ledger: Ledger) {
    let (mut detector, mut beats, mut losses) = (Detector::new(own), beats(), ledger.losses());
    let mut doubtful = false;
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            _ = losses.changed() => doubtful = true,
        }
        doubtful = doubtful && !are_stored(&*control, &ledger.finished()).await;
        let Ok(records) = instances.read().await else {
            detector.failed();
            continue;
        };
        for (instance, record) in detector.read(records, Instant::now().into_std()) {
            let sessions = record.map(|record| record.sessions).unwrap_or_default();
            if let Err(error) = put_right(&*control, &*instances, &instance, &sessions).await {
                warn!(%error, instance, "the sessions of an instance that is gone could not be put right yet");
            }
        }
    }
}

/// Stores the ends of sessions again where they were lost. Whether all are known to be stored.
async fn are_stored(control: &dyn ControlPlane, finished: &[RecordedSession]) -> bool {
    for session in finished {
        if let Err(error) = close(control, session).await {
            warn!(%error, resourceID = %session.resource_id, "whether the end of a session is still stored is not known");
            return false;
        }
    }
    true
}

/// Puts the sessions of an instance right that is gone, and then removes its record: should this process end in between, another
/// begins again, and finds what is done already.
async fn put_right(
    control: &dyn ControlPlane,
    instances: &dyn Instances,
    instance: &str,
    sessions: &[RecordedSession],
) -> Result<(), Fault> {
    if !instances.claim(instance).await? {
        return Ok(());
    }
    info!(instance, sessions = sessions.len(), "an instance is gone: its sessions are put right");
    for session in sessions {
        close(control, session).await?;
    }
    instances.remove(instance).await
}

/// Stores the end of a session that stands as running.
async fn close(control: &dyn ControlPlane, session: &RecordedSession) -> Result<(), Fault> {
    let stored = control.stored(&session.ingress_id).await?.and_then(|stored| stored.state);
    let Some(end) = closing(session, stored.as_ref(), unix_nanos(SystemTime::now())) else { return Ok(()) };
    match control.report(&session.ingress_id, &end).await {
        Ok(()) => info!(
            ingressID = %session.ingress_id, resourceID = %session.resource_id, status = ?end.status, error = end.error,
            "the end of a session that stood as running was stored"
        ),
        // It has begun anew, or was deleted, meanwhile.
        Err(ReportError::Older | ReportError::Deleted) => {}
        Err(ReportError::Unreachable(fault)) => return Err(fault),
    }
    Ok(())
}

fn beats() -> tokio::time::Interval {
    let mut beats = interval(BEAT_INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

#[cfg(test)]
mod tests;
