//! Which of the two branches still work: one may fail and the other goes on; when both have failed there is nothing to do.

use crate::outbox::Outbox;
use ipc::ToParent;
use model::Kind;
use std::sync::{Arc, Mutex, PoisonError};

/// Reports branches that fail.
#[derive(Clone)]
pub struct Branches {
    outbox: Outbox,
    failed: Arc<Mutex<Vec<Kind>>>,
}

impl Branches {
    /// Both work.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, failed: Arc::default() }
    }

    /// Tells the parent that this kind cannot be used, once for each kind; after the second, that nothing can be done.
    pub fn unusable(&self, kind: Kind, reason: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.contains(&kind) {
            return;
        }
        failed.push(kind);
        self.outbox.fact(ToParent::Unusable { kind, reason });
        if failed.len() == 2 {
            self.outbox.fact(ToParent::Failed { reason: "neither the video nor the sound can be decoded".into() });
        }
    }

    /// This kind works (again), or has a new chance: a later failure is worth a word of its own. Whether it had been said to
    /// fail: then the parent has to hear of its format anew.
    pub fn usable(&self, kind: Kind) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failed.len();
        failed.retain(|k| *k != kind);
        failed.len() < before
    }
}
