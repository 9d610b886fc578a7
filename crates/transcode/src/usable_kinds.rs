//! Which kinds of media can be decoded: one may fail and the other goes on; when both have failed there is nothing to do.

use ipc::transcode::Event;
use model::{Blame, Fault, Kind};
use std::sync::{Arc, Mutex, PoisonError};
use worker::Events;

/// Reports kinds that fail.
#[derive(Clone)]
pub(crate) struct UsableKinds {
    events: Events<Event>,
    failed: Arc<Mutex<Vec<(Kind, Fault)>>>,
}

impl UsableKinds {
    /// Both work.
    pub(crate) fn new(events: Events<Event>) -> Self {
        Self { events, failed: Arc::default() }
    }

    /// Tells the parent that this kind cannot be used, once for each kind; after the second, that nothing can be done.
    pub(crate) fn failed(&self, kind: Kind, fault: Fault) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.iter().any(|(k, _)| *k == kind) {
            return;
        }
        failed.push((kind, fault.clone()));
        self.events.send(&Event::Unusable { kind, fault });
        if failed.len() == 2 {
            let ours = failed.iter().find(|(_, fault)| fault.blame == Blame::Us);
            let (blame, retry) = ours.map_or((Blame::Source, false), |(_, fault)| (Blame::Us, fault.retry));
            let text = "neither the video nor the audio can be decoded".to_owned();
            self.events.send(&Event::Failed(Fault { blame, retry, text }));
        }
    }

    /// This kind works (again), or has a new chance: a later failure is reported again. Whether it had been reported to fail: then
    /// the parent has to hear of its format again.
    pub(crate) fn works(&self, kind: Kind) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failed.len();
        failed.retain(|(k, _)| *k != kind);
        failed.len() < before
    }
}
