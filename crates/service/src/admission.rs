//! The decision whether a publisher may begin: key → ingress → duplicate rule → capacity → session.
//!
//! [`Admission::admit`] is the only place that logs, counts and stores how publishers are answered.

use crate::config::OnDuplicate;
use crate::control::{Resolved, started_after, store_refusal};
use crate::inputs::request::{PublishRequest, PublishTarget, Publisher};
use crate::metrics::{PublishCounts, PublishStatus};
use crate::sessions::admitted::{Admitted, NewSession, Outcome};
use crate::sessions::running::Sessions;
use model::{Blame, Fault, InputKind, ResourceId, Secret};
use session::registry::{Entry, Slot};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

/// How long a new publisher waits for the session before it to end. Ending takes 2.5 s at most.
const ENDING_SESSION_WAIT: Duration = Duration::from_secs(3);
/// How often to look whether that session has ended: short beside what ending takes.
const ENDING_SESSION_POLL: Duration = Duration::from_millis(20);

/// See the [module](self).
pub struct Admission {
    sessions: Arc<Sessions>,
    publishes: PublishCounts,
    /// What a second publisher with the key of a running session does.
    on_duplicate: OnDuplicate,
}

/// A publisher that may not begin.
struct Refused {
    /// The key that was refused last; empty where none was shown.
    key: Secret,
    fault: Fault,
}

impl Admission {
    /// Admits publishers to these sessions.
    pub fn new(sessions: Arc<Sessions>, publishes: PublishCounts, on_duplicate: OnDuplicate) -> Arc<Self> {
        Arc::new(Self { sessions, publishes, on_duplicate })
    }

    /// Admits a publisher and begins its session, or refuses it.
    pub async fn admit(&self, request: Box<dyn PublishRequest>) {
        let (input, wanted, publisher) = (request.input(), request.wanted(), request.publisher());
        let decided = match self.find(&wanted).await {
            Ok((key, resolved)) => {
                let checked = request.check(&resolved.spec);
                self.decide(input, &wanted, (key, resolved), checked).await
            }
            Err(refused) => Err(refused),
        };
        let mut admitted = match decided {
            Ok(admitted) => admitted,
            Err(Refused { key, fault }) => {
                if let Some(unlogged) = request.log_budget().may_log() {
                    log_refusal(input, &wanted, &publisher, &key, &fault, unlogged);
                }
                self.publishes.count(input, PublishStatus::from(&fault));
                return request.reject(fault);
            }
        };
        match request.accept(&mut admitted).await {
            Ok(source) => {
                log_acceptance(input, &publisher, &admitted);
                self.publishes.count(input, PublishStatus::Success);
                if let Some(source) = source {
                    self.sessions.begin(admitted, source);
                }
            }
            Err(fault) => {
                // It had a valid key, or came from the control plane: no stranger, so the log has no bound for it.
                log_refusal(input, &wanted, &publisher, &admitted.key, &fault, 0);
                self.publishes.count(input, PublishStatus::from(&fault));
                self.withdraw(admitted, &wanted, &fault).await;
            }
        }
    }

    /// Reserves what a session of this ingress needs. A refusal is stored with the ingress before this returns.
    async fn decide(
        &self,
        input: InputKind,
        wanted: &PublishTarget,
        (key, resolved): (Secret, Resolved),
        checked: Result<(), Fault>,
    ) -> Result<Admitted, Refused> {
        match self.reserve(input, wanted, resolved, checked).await {
            Ok(outcome) => {
                let prejoin = self.sessions.prejoin();
                Ok(Admitted { key, outcome, prejoin })
            }
            Err(fault) => Err(Refused { key, fault }),
        }
    }

    /// The ingress that a publisher asks for.
    async fn find(&self, wanted: &PublishTarget) -> Result<(Secret, Resolved), Refused> {
        if self.sessions.draining() {
            let text = match wanted {
                PublishTarget::Keys(_) => "server shutting down: connect again to reach another one",
                PublishTarget::Ingress(_) => "server shutting down",
            };
            return Err(Refused { key: Secret::default(), fault: Fault::transient(Blame::Draining, text) });
        }
        let keys = match wanted {
            PublishTarget::Ingress(resolved) => return Ok((Secret::default(), (**resolved).clone())),
            PublishTarget::Keys(keys) => keys,
        };
        let mut refused =
            Refused { key: Secret::default(), fault: Fault::new(Blame::Unknown, "no stream key was given") };
        for key in keys {
            match self.sessions.parts().control.lookup(key).await {
                Ok(resolved) => return Ok((key.clone(), resolved)),
                Err(fault) => refused = Refused { key: key.clone(), fault },
            }
            if refused.fault.blame != Blame::Unknown {
                break;
            }
        }
        Err(refused)
    }

    /// Applies the duplicate rule, takes the machine's capacity, and has the session's commands served.
    async fn reserve(
        &self,
        input: InputKind,
        wanted: &PublishTarget,
        resolved: Resolved,
        checked: Result<(), Fault>,
    ) -> Result<Outcome, Fault> {
        let resource_id = new_resource_id(input);
        if let Err(fault) = checked {
            self.store_refusal(wanted, &resolved, &resource_id, &fault).await;
            return Err(fault);
        }
        let entered = match wanted {
            PublishTarget::Keys(_) => self.enter(&resolved, &resource_id, input).await?,
            PublishTarget::Ingress(_) => self.enter_pull(&resolved, &resource_id, input)?,
        };
        let slot = match (entered, wanted) {
            (Ok(slot), _) => slot,
            (Err(running), PublishTarget::Ingress(_)) => return Ok(Outcome::Runs(running)),
            (Err(running), PublishTarget::Keys(_)) => {
                return Ok(Outcome::TakesOver { running, resource_id, ws_url: resolved.ws_url });
            }
        };
        let permit = match self.sessions.parts().capacity.try_admit(&resource_id, &resolved.spec) {
            Ok(permit) => permit,
            Err(fault) => {
                self.store_refusal(wanted, &resolved, &resource_id, &fault).await;
                return Err(fault);
            }
        };
        let commands = self.sessions.parts().control.serve_session(&resolved.spec.ingress_id, &resource_id).await?;
        Ok(Outcome::New(Box::new(NewSession { slot, resolved, commands, prejoined: None, permit })))
    }

    /// The duplicate rule for pushes: takes the ingress's slot, or finds the session to take over; waits for one that is
    /// ending.
    async fn enter(
        &self,
        resolved: &Resolved,
        resource_id: &ResourceId,
        input: InputKind,
    ) -> Result<Result<Slot, Entry>, Fault> {
        let until = Instant::now() + ENDING_SESSION_WAIT;
        loop {
            let ending = match self.take_slot(resolved, resource_id, input) {
                Ok(slot) => return Ok(Ok(slot)),
                Err(running) if running.is_ending() => running,
                Err(running) if self.on_duplicate == OnDuplicate::Takeover => return Ok(Err(running)),
                Err(_) => {
                    let text =
                        "this stream key is in use by another encoder (on_duplicate: refuse); stop that one first";
                    return Err(Fault::transient(Blame::InUse, text));
                }
            };
            if timeout_at(until, self.ended(&ending)).await.is_err() {
                let text = "the last session with this stream key is still ending; connect again in a few seconds";
                return Err(Fault::transient(Blame::Us, text));
            }
        }
    }

    /// The duplicate rule for pulls: a request whose answer came too late is made again, and finds its session running.
    fn enter_pull(
        &self,
        resolved: &Resolved,
        resource_id: &ResourceId,
        input: InputKind,
    ) -> Result<Result<Slot, Entry>, Fault> {
        match self.take_slot(resolved, resource_id, input) {
            Err(running) if running.is_ending() => {
                Err(Fault::transient(Blame::Us, "the last session of this ingress is still ending"))
            }
            entered => Ok(entered),
        }
    }

    fn take_slot(&self, resolved: &Resolved, resource_id: &ResourceId, input: InputKind) -> Result<Slot, Entry> {
        let (ingress_id, transcode) = (resolved.spec.ingress_id.clone(), resolved.spec.transcode);
        let started_at = started_after(resolved.stored.as_ref(), SystemTime::now());
        self.sessions.registry().enter(ingress_id, resource_id.clone(), input, transcode, started_at)
    }

    /// Resolves when this session has ended. Another one of its ingress may have begun by then.
    async fn ended(&self, session: &Entry) {
        let current = || self.sessions.registry().get(&session.ingress_id);
        while current().is_some_and(|running| running.resource_id == session.resource_id) {
            sleep(ENDING_SESSION_POLL).await;
        }
    }

    /// Gives up what was reserved, because the publisher could not begin.
    async fn withdraw(&self, admitted: Admitted, wanted: &PublishTarget, fault: &Fault) {
        if let Outcome::New(new) = admitted.outcome {
            let NewSession { slot, resolved, commands, prejoined, permit: _permit } = *new;
            drop((commands, prejoined));
            self.store_refusal(wanted, &resolved, &slot.entry.resource_id, fault).await;
        }
    }

    /// Stores a refusal with the ingress, unless a session of it runs. Who asked for a pull stores the answer itself.
    async fn store_refusal(
        &self,
        wanted: &PublishTarget,
        resolved: &Resolved,
        resource_id: &ResourceId,
        fault: &Fault,
    ) {
        if let PublishTarget::Keys(_) = wanted {
            let (ingress_id, stored) = (&resolved.spec.ingress_id, resolved.stored.as_ref());
            // What is stored may not yet be what a session here has reported: it would refuse reports that are older than this one.
            if self.sessions.registry().get(ingress_id).is_some_and(|running| running.resource_id != *resource_id) {
                return;
            }
            store_refusal(&*self.sessions.parts().control, ingress_id, stored, resource_id.clone(), fault).await;
        }
    }
}

fn log_acceptance(input: InputKind, publisher: &Publisher, admitted: &Admitted) {
    let Publisher { peer, encoder, app } = publisher;
    info!(
        input = input.as_str(),
        peer = peer.map(tracing::field::display),
        encoder,
        %app,
        key = %admitted.key,
        ingressID = %admitted.entry().ingress_id,
        resourceID = %admitted.resource_id(),
        transcode = admitted.transcode(),
        "publisher accepted"
    );
}

fn log_refusal(
    input: InputKind,
    wanted: &PublishTarget,
    publisher: &Publisher,
    key: &Secret,
    fault: &Fault,
    unlogged: u64,
) {
    let Publisher { peer, encoder, app } = publisher;
    let ingress_id = match wanted {
        PublishTarget::Keys(_) => None,
        PublishTarget::Ingress(resolved) => Some(tracing::field::display(&resolved.spec.ingress_id)),
    };
    warn!(
        input = input.as_str(),
        peer = peer.map(tracing::field::display),
        encoder,
        %app,
        %key,
        ingressID = ingress_id,
        reason = %fault,
        unlogged,
        "publisher refused"
    );
}

/// A new id for a session of this input.
fn new_resource_id(input: InputKind) -> ResourceId {
    ResourceId(format!("{}{}", input.resource_prefix(), random_id()))
}

/// Twelve letters and digits, as LiveKit's ids have behind their prefix.
fn random_id() -> String {
    use rand::RngExt;
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    (0..12).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests;
