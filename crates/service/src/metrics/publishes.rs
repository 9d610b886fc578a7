//! `livekit_ingress_publish_status`: what publishers were answered.

use super::{Registry, Sample};
use model::{Blame, Fault, InputKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a publisher's request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishStatus {
    /// Accepted.
    Success,
    /// Refused for what was asked: "4xx".
    Refused,
    /// A server behind us failed with an HTTP status of 500 or more: "5xx".
    Upstream,
    /// Failed for any other reason: "internal".
    Internal,
}

impl PublishStatus {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "4xx",
            Self::Upstream => "5xx",
            Self::Internal => "internal",
        }
    }
}

/// As the Go ingress sorts its codes: what the publisher can mend, or what a retry elsewhere mends (a full machine is HTTP 429
/// there), is 4xx; a machine or control plane that is not there (503) is internal.
impl From<&Fault> for PublishStatus {
    fn from(fault: &Fault) -> Self {
        match fault.blame {
            Blame::Source | Blame::Access | Blame::Unknown | Blame::Mismatch | Blame::InUse => Self::Refused,
            Blame::Spec | Blame::Capacity => Self::Refused,
            Blame::Room | Blame::Control | Blame::Us | Blame::Draining => Self::Internal,
        }
    }
}

/// Counts answers to publishers. Clones count together.
#[derive(Clone, Debug)]
pub struct PublishCounts {
    /// One entry at most for each input and status.
    counts: Arc<Mutex<BTreeMap<(&'static str, PublishStatus), u64>>>,
}

impl PublishCounts {
    /// Counts that `registry` shows.
    pub fn register(registry: &Registry, node_id: &str) -> Self {
        let counts = Self { counts: Arc::default() };
        let (shown, node) = (counts.clone(), node_id.to_owned());
        let help = "Requests of publishers, by how they ended";
        registry.read_counters("livekit_ingress_publish_status", help, move || {
            let sample = |((input, status), count): (&(&str, PublishStatus), &u64)| Sample {
                labels: vec![
                    ("node_id", node.clone()),
                    ("type", (*input).to_owned()),
                    ("status", status.as_str().to_owned()),
                ],
                value: *count as f64,
            };
            shown.lock().iter().map(sample).collect()
        });
        counts
    }

    /// Counts an answer to a publisher. A URL that livekit-server has pulled is no publish, and does not count.
    pub fn count(&self, input: InputKind, status: PublishStatus) {
        if input == InputKind::Url {
            return;
        }
        *self.lock().entry((input.as_str(), status)).or_insert(0) += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, PublishStatus), u64>> {
        // Held for single map operations only, which cannot leave it half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
