//! All sessions of this process: beginning them, ending them, and waiting for their end.

use super::admitted::{Admitted, NewSession, Outcome};
use super::prejoin::Prejoin;
use super::state_reporter::{Pull, StateReporter};
use super::turns::Turns;
use crate::control::ControlPlane;
use crate::load::Capacity;
use crate::recovery::Ledger;
use crate::telemetry::session_span;
use session::lifecycle::Stop;
use session::participant::ParticipantFactory;
use session::registry::{Command, Registry};
use session::time::unix_nanos;
use session::workers::Workers;
use session::{Passthrough, SessionObserver, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument, error, info, warn};

/// How often [`Sessions::idle`] looks whether sessions have ended: short beside what ending takes.
const IDLE_POLL: Duration = Duration::from_millis(20);

/// How long a process that has nothing else to do stays for reports that can't be stored: an operator who repairs something needs
/// minutes.
const LAST_REPORTS_WAIT: Duration = Duration::from_secs(120);

/// What sessions are made with.
pub struct Parts {
    /// Finds ingresses and takes reports.
    pub control: Arc<dyn ControlPlane>,
    /// Whether the machine can carry a session.
    pub capacity: Capacity,
    /// Makes sessions' participants.
    pub participants: Arc<dyn ParticipantFactory>,
    /// Where sessions get workers.
    pub workers: Arc<dyn Workers>,
    /// Notes the sessions for who finds this instance gone.
    pub ledger: Ledger,
    /// Observes sessions while they run.
    pub observer: Arc<dyn SessionObserver>,
    /// How long a source may send no media once it publishes.
    pub stall_timeout: Duration,
    /// Whether the source's own video may be the highest layer.
    pub passthrough: Passthrough,
    /// Whether to offer loopback addresses for media.
    pub loopback: bool,
}

/// All running sessions of this process.
pub struct Sessions {
    parts: Parts,
    registry: Registry,
    draining: AtomicBool,
    /// Whether what is pulled is handed over to others.
    hands_over: watch::Sender<bool>,
    turns: Arc<Turns>,
    /// Sessions whose last report is not out yet: they outlive their slot in the registry by that.
    active: AtomicUsize,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            registry: Registry::default(),
            draining: AtomicBool::new(false),
            hands_over: watch::Sender::new(false),
            turns: Arc::default(),
            active: AtomicUsize::new(0),
        })
    }

    /// What sessions are made with.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// How publishers may join their room before their session begins.
    pub(crate) fn prejoin(&self) -> Prejoin {
        Prejoin { participants: self.parts.participants.clone(), loopback: self.parts.loopback }
    }

    /// The sessions that run or are being admitted.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// From now on nobody is admitted.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.parts.capacity.drain();
    }

    /// Whether nobody is admitted any more.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on other instances are asked to go on with what is pulled here, as far as they can.
    pub fn hand_over_pulls(&self) {
        self.hands_over.send_replace(true);
    }

    /// Ends all sessions, in order.
    pub fn stop_all(&self) {
        for entry in self.registry.list() {
            if entry.tell(Command::Stop(Stop::Shutdown)).is_err() && !entry.is_ending() {
                warn!(resourceID = %entry.resource_id, "a session's command queue is full: it can't be stopped");
            }
        }
    }

    /// Resolves when no session runs and all last reports are out, or some can't be stored for long: then this instance's record has
    /// them.
    pub async fn idle(&self) {
        let mut quiet_since = None::<Instant>;
        while self.active.load(Ordering::Acquire) > 0 || !self.registry.is_empty() {
            let quiet = self.registry.is_empty();
            quiet_since = quiet.then(|| quiet_since.unwrap_or_else(Instant::now));
            if quiet_since.is_some_and(|since| since.elapsed() >= LAST_REPORTS_WAIT) {
                let left = self.active.load(Ordering::Acquire);
                return warn!(left, "the ends of some sessions could not be stored for long");
            }
            tokio::time::sleep(IDLE_POLL).await;
        }
    }

    /// Begins the session of an admitted publisher, or hands its media to the one it takes over.
    pub(crate) fn begin(self: &Arc<Self>, admitted: Admitted, source: Source) {
        match admitted.outcome {
            Outcome::New(new) => self.begin_session(*new, source),
            Outcome::TakesOver { running, .. } => {
                if let Err(Command::TakeOver(source)) = running.tell(Command::TakeOver(source)) {
                    source.refuse_ended();
                }
            }
            // What asked for it got no media to bring.
            Outcome::Runs(_) => {}
        }
    }

    fn begin_session(self: &Arc<Self>, new: NewSession, source: Source) {
        let NewSession { slot, resolved, commands, prejoined, permit } = new;
        let spec = resolved.spec;
        let entry = slot.entry.clone();
        let started_at = unix_nanos(entry.started_at);
        let recorded = self.parts.ledger.enter(entry.ingress_id.clone(), entry.resource_id.clone(), started_at);
        let begun = (entry.clone(), spec.clone());
        let (drains, turns) = (self.hands_over.subscribe(), self.turns.clone());
        let pull = Pull { portable: source.portable.clone(), drains, turns };
        let span = session_span(&spec, &entry.resource_id, &resolved.logging_fields);
        span.in_scope(|| info!(name = %spec.name, input = spec.input.as_str(), "session begins"));
        let (session, reports) = session::run(session::Start {
            slot,
            spec,
            ws_url: resolved.ws_url,
            token: resolved.token,
            renew: resolved.renew,
            stall_timeout: self.parts.stall_timeout,
            passthrough: self.parts.passthrough,
            loopback: self.parts.loopback,
            source,
            participants: prejoined.map_or_else(|| self.parts.participants.clone(), |prejoined| Arc::new(prejoined)),
            workers: self.parts.workers.clone(),
            observer: self.parts.observer.clone(),
        });
        let (control, registry) = (self.parts.control.clone(), self.registry.clone());
        let reporter = StateReporter::new(control, registry, begun, commands, recorded, pull);
        self.active.fetch_add(1, Ordering::Acquire);
        let sessions = self.clone();
        let work = async move {
            // On a task of its own: a panic ends this session only, and its slot is given up all the same.
            let session = async move {
                session.await;
                // The machine's capacity is free again before the last report has reached anybody.
                drop(permit);
            };
            let session = tokio::spawn(session.in_current_span());
            reporter.run(reports).await;
            if session.await.is_err() {
                error!("the session's task panicked");
            }
            info!("session ended");
            sessions.active.fetch_sub(1, Ordering::Release);
        };
        tokio::spawn(work.instrument(span));
    }
}
