//! From a publisher who knocks to a running session, and from a running session to the control plane.
//!
//! Servers ask [`Sessions::admit`] and start what it gives. Each session has a clerk: one task that carries its reports out
//! and commands in, one after the other, so that nothing is reported once a deletion was answered.

mod prejoin;
mod state_reporter;

use crate::config::OnDuplicate;
use crate::control::{ControlPlane, Resolved, SessionCommands, StartRequest, store_refusal};
use crate::load::{Capacity, Permit};
use crate::telemetry::session_span;
use model::{Blame, Fault, IngressId, InputKind, PullJob, ResourceId, Secret};
use session::lifecycle::Stop;
use session::participant::{ParticipantFactory, Prejoined};
use session::registry::{Command, Entry, Registry, Slot};
use session::workers::pool::Transcoders;
use session::{Report, SessionObserver, Source, Status};
use state_reporter::StateReporter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tracing::{Instrument, info, warn};

/// How long a new publisher waits for the session before it to end. Ending takes 2.5 s at the most.
const ENDING: Duration = Duration::from_secs(3);
/// How long a request to pull may take to be answered: livekit-server asks somebody else after 3 s.
const PULL_ANSWER: Duration = Duration::from_millis(2_500);
/// How often to look whether sessions have ended, where somebody waits for it.
const LOOK: Duration = Duration::from_millis(20);

/// What sessions are made with.
pub struct Parts {
    /// Who knows ingresses and takes reports.
    pub control: Arc<dyn ControlPlane>,
    /// Whether the machine has room.
    pub admission: Capacity,
    /// Makes sessions' participants.
    pub participants: Arc<dyn ParticipantFactory>,
    /// Where sessions get transcoders.
    pub transcoders: Arc<dyn Transcoders>,
    /// Observes sessions while they run.
    pub observer: Arc<dyn SessionObserver>,
    /// What a second publisher with the same key does.
    pub on_duplicate: OnDuplicate,
    /// Whether to offer loopback addresses for media.
    pub loopback: bool,
}

/// See the [module](self).
pub struct Sessions {
    parts: Parts,
    registry: Registry,
    draining: AtomicBool,
    /// Sessions whose last report is not out yet: they outlive their slot in the registry by that.
    active: AtomicUsize,
}

/// A publisher that may begin. Dropping it frees its slot.
pub enum Admitted {
    /// A session of its own.
    New(Box<NewSession>),
    /// It takes over the session that runs.
    TakesOver {
        /// That session.
        running: Entry,
        /// The server of its room.
        ws_url: String,
    },
}

/// What a new session starts with.
pub struct NewSession {
    slot: Slot,
    resolved: Resolved,
    commands: SessionCommands,
    /// The room, where it was joined already.
    ahead: Option<Prejoined>,
    _permit: Permit,
}

impl Admitted {
    /// The id under which this publisher is known: of a session of its own, or one for itself within another's.
    pub fn resource_id(&self) -> ResourceId {
        match self {
            Self::New(new) => new.slot.entry.resource_id.clone(),
            Self::TakesOver { running, .. } => resource_id(running.input),
        }
    }

    /// Whether its media is transcoded.
    pub fn transcode(&self) -> bool {
        match self {
            Self::New(new) => new.resolved.spec.transcode,
            Self::TakesOver { running, .. } => running.transcode,
        }
    }
}

/// A new id.
fn resource_id(input: InputKind) -> ResourceId {
    ResourceId(format!("{}{}", input.resource_prefix(), random_id()))
}

impl Sessions {
    /// No sessions yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            registry: Registry::default(),
            draining: AtomicBool::new(false),
            active: AtomicUsize::new(0),
        })
    }

    /// The one registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// From now on nobody is admitted.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.parts.admission.drain();
    }

    /// Whether anybody may be admitted at all.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends all sessions, in order.
    pub fn stop_all(&self) {
        for entry in self.registry.list() {
            if entry.tell(Command::Stop(Stop::Shutdown)).is_err() && !entry.is_ending() {
                warn!(resourceID = %entry.resource_id, "a session is too busy to be told to stop");
            }
        }
    }

    /// Resolves when no session runs and all last reports are out.
    pub async fn idle(&self) {
        while !self.registry.is_empty() || self.active.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks a publisher's key up and makes room for its session, or says why not. Nothing is stored about a refusal while a
    /// session of that ingress runs.
    ///
    /// # Errors
    /// Words for the publisher and the log.
    pub async fn admit(&self, key: &Secret, input: InputKind) -> Result<Admitted, Fault> {
        if self.draining() {
            return Err(Fault::transient(Blame::Draining, "server shutting down: connect again to reach another one"));
        }
        let resolved = self.parts.control.lookup(key).await?;
        let resource = resource_id(input);
        if let Err(fault) = resolved.spec.expect_input(input) {
            self.store_refusal(&resolved, &resource, &fault).await;
            return Err(fault);
        }
        let slot = match self.enter(&resolved, &resource, input).await? {
            Ok(slot) => slot,
            Err(running) => return Ok(Admitted::TakesOver { running, ws_url: resolved.ws_url }),
        };
        let permit = match self.parts.admission.try_admit(input, resolved.spec.transcode) {
            Ok(permit) => permit,
            Err(fault) => {
                self.store_refusal(&resolved, &resource, &fault).await;
                return Err(fault);
            }
        };
        let commands = self.parts.control.serve_session(&resolved.spec.ingress_id, &resource).await?;
        Ok(Admitted::New(Box::new(NewSession { slot, resolved, commands, ahead: None, _permit: permit })))
    }

    /// Makes room for the session of an ingress that is pulled, and makes it known; what to answer, and the session to start, unless
    /// it runs already: a request whose answer came too late is made again.
    ///
    /// # Errors
    /// Words for who asked.
    pub async fn admit_pull(&self, request: &StartRequest) -> Result<(Report, Option<Box<NewSession>>), Fault> {
        if self.draining() {
            return Err(Fault::transient(Blame::Draining, "server shutting down"));
        }
        let (spec, input) = (&request.resolved.spec, InputKind::Url);
        let resource = resource_id(input);
        let answer = |entry: &Entry| {
            Report::first(entry.resource_id.clone(), Status::Buffering, String::new(), entry.started_at)
        };
        let entered = self.registry.enter(spec.ingress_id.clone(), resource.clone(), input, spec.transcode);
        let slot = match entered {
            Ok(slot) => slot,
            Err(running) if running.is_ending() => {
                return Err(Fault::transient(Blame::Us, "the last session of this ingress is still ending"));
            }
            Err(running) => return Ok((answer(&running), None)),
        };
        let permit = self.parts.admission.try_admit(input, spec.transcode)?;
        let made = async {
            let commands = self.parts.control.serve_session(&spec.ingress_id, &resource).await?;
            self.parts.control.create_ingress(request).await?;
            Ok(commands)
        };
        let late = || Fault::transient(Blame::Control, "livekit-server did not take the ingress in time");
        let commands = tokio::time::timeout(PULL_ANSWER, made).await.map_err(|_| late())??;
        let (report, resolved) = (answer(&slot.entry), request.resolved.clone());
        Ok((report, Some(Box::new(NewSession { slot, resolved, commands, ahead: None, _permit: permit }))))
    }

    /// Begins the session of an admitted pull.
    ///
    /// # Errors
    /// If nothing could be started that pulls.
    pub fn start_pull(self: &Arc<Self>, new: Box<NewSession>, job: PullJob) -> Result<(), Fault> {
        let source = session::url_source::start(self.parts.transcoders.clone(), job);
        let source =
            source.map_err(|e| Fault::transient(Blame::Us, format!("nothing could be started that pulls: {e}")))?;
        self.start(Admitted::New(new), source);
        Ok(())
    }

    /// Takes the slot of the ingress, or finds the session to take over; waits for one that is ending.
    async fn enter(
        &self,
        resolved: &Resolved,
        resource: &ResourceId,
        input: InputKind,
    ) -> Result<Result<Slot, Entry>, Fault> {
        let spec = &resolved.spec;
        let until = tokio::time::Instant::now() + ENDING;
        loop {
            let running = match self.registry.enter(spec.ingress_id.clone(), resource.clone(), input, spec.transcode) {
                Ok(slot) => return Ok(Ok(slot)),
                Err(running) => running,
            };
            if !running.is_ending() {
                if self.parts.on_duplicate == OnDuplicate::Takeover {
                    return Ok(Err(running));
                }
                let text = "this stream key is in use by another encoder (on_duplicate: refuse); stop that one first";
                return Err(Fault::transient(Blame::InUse, text));
            }
            if tokio::time::timeout_at(until, self.wait_for_place(&spec.ingress_id)).await.is_err() {
                let text = "the last session with this stream key is still ending; connect again in a few seconds";
                return Err(Fault::transient(Blame::Us, text));
            }
        }
    }

    async fn wait_for_place(&self, ingress: &IngressId) {
        while self.registry.get(ingress).is_some() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives up what was admitted, because its media is of no use.
    pub async fn withdraw(&self, admitted: Admitted, fault: &Fault) {
        if let Admitted::New(new) = admitted {
            let NewSession { slot, resolved, commands, ahead, _permit } = *new;
            drop((commands, ahead));
            self.store_refusal(&resolved, &slot.entry.resource_id, fault).await;
        }
    }

    async fn store_refusal(&self, resolved: &Resolved, resource: &ResourceId, fault: &Fault) {
        let (ingress, stored) = (&resolved.spec.ingress_id, resolved.stored);
        store_refusal(&*self.parts.control, ingress, stored, resource.clone(), fault).await;
    }

    /// Begins the session of an admitted publisher, or hands it to the one it takes over.
    pub fn start(self: &Arc<Self>, admitted: Admitted, source: Source) {
        let new = match admitted {
            Admitted::New(new) => *new,
            Admitted::TakesOver { running, .. } => {
                if let Err(Command::TakeOver(source)) = running.tell(Command::TakeOver(source)) {
                    source.too_late();
                }
                return;
            }
        };
        let NewSession { slot, resolved, commands, ahead, _permit: permit } = new;
        let spec = resolved.spec;
        let span = session_span(&spec, &slot.entry.resource_id, &resolved.logging_fields);
        span.in_scope(|| info!(name = %spec.name, input = spec.input.as_str(), "session begins"));
        let entry = slot.entry.clone();
        let (running, reports) = session::run(session::Start {
            slot,
            spec,
            ws_url: resolved.ws_url,
            token: resolved.token,
            loopback: self.parts.loopback,
            source,
            participants: ahead.map_or_else(|| self.parts.participants.clone(), |ahead| Arc::new(ahead)),
            transcoders: self.parts.transcoders.clone(),
            observer: self.parts.observer.clone(),
        });
        let clerk = StateReporter::new(self.parts.control.clone(), self.registry.clone(), entry, commands);
        self.active.fetch_add(1, Ordering::Acquire);
        let sessions = self.clone();
        let work = async move {
            // On a task of its own: a panic ends this session only, and its slot is freed all the same.
            let session = async move {
                running.await;
                // The machine is free again before the last word about the session has reached anybody.
                drop(permit);
            };
            let running = tokio::spawn(session.in_current_span());
            clerk.run(reports).await;
            if running.await.is_err() {
                tracing::error!("the session's task panicked");
            }
            info!("session ended");
            sessions.active.fetch_sub(1, Ordering::Release);
        };
        tokio::spawn(work.instrument(span));
    }
}

/// Twelve letters and digits, as LiveKit's ids have behind their prefix.
pub(crate) fn random_id() -> String {
    use rand::RngExt;
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    (0..12).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}
