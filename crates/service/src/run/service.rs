//! The service from its start to its end: start, serve, drain, stop. Its record is the last thing it lets go of.

use super::confinement::Confinement;
use super::signals::{self, Shutdown, Signals};
use crate::admission::Admission;
use crate::config::Config;
use crate::control::{ControlPlane, ServeGuard};
use crate::http;
use crate::inputs;
use crate::inputs::context::Context;
use crate::inputs::listener::Listeners;
use crate::load::{Capacity, Cpu, Roots, Sampler};
use crate::metrics::{self, PublishCounts, Registry, SessionMetrics};
use crate::recovery::{Keeper, Ledger};
use crate::sessions::{Observers, Parts, Sessions};
use model::{Blame, Fault, IngressId, ResourceId};
use session::participant::ParticipantFactory;
use session::workers::Workers;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

/// How long sessions may take to end in order: leaving a room is bounded by 1.5 s, and so is nearly all of it.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// The same after a second signal.
const SECOND_SIGNAL_STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What the service is started with beside its configuration: the world around it.
pub(crate) struct Dependencies {
    /// This process's name in logs and metrics.
    pub(crate) node_id: String,
    /// How workers are confined.
    pub(crate) confinement: Confinement,
    /// The CPUs there are.
    pub(crate) cpu: Cpu,
    /// Finds ingresses and takes reports.
    pub(crate) control: Arc<dyn ControlPlane>,
    /// Makes sessions' participants.
    pub(crate) participants: Arc<dyn ParticipantFactory>,
    /// Starts workers.
    pub(crate) workers: Arc<dyn Workers>,
    /// Ends the workers that wait for a session; called once nobody is admitted any more.
    pub(crate) end_waiting_workers: Box<dyn Fn() + Send>,
}

/// A service whose ports are open.
pub(crate) struct Service {
    sessions: Arc<Sessions>,
    admission: Arc<Admission>,
    listeners: Listeners,
    drain_timeout: Duration,
    end_waiting_workers: Box<dyn Fn() + Send>,
    keeper: Keeper,
    _sampler: Sampler,
    _pages: Vec<http::Server>,
    _listing: ServeGuard,
}

impl Service {
    /// Builds everything and opens the ports.
    ///
    /// # Errors
    /// What keeps the service from starting, by its configuration key.
    pub(crate) async fn start(config: &Config, world: Dependencies) -> Result<Self, Fault> {
        let Dependencies { node_id, confinement, cpu, control, participants, workers, end_waiting_workers } = world;
        let capacity = Capacity::new(cpu.capacity(), config.cpu_cost);
        if let Some(advice) = capacity.advice() {
            warn!("{advice}");
        }
        let registry = registry(&node_id, &capacity, control.clone());
        metrics::register_confinement(&registry, confinement.support, confinement.killed);
        let sampler = Sampler::spawn(cpu, Roots::default(), capacity.clone());
        let ledger = Ledger::default();
        let keeper = Keeper::start(control.clone(), node_id.clone(), ledger.clone());
        let sessions = Sessions::new(Parts {
            control: control.clone(),
            capacity: capacity.clone(),
            participants: participants.clone(),
            workers: workers.clone(),
            ledger,
            observer: Arc::new(Observers::new(SessionMetrics::register(&registry), capacity.clone())),
            stall_timeout: config.stall_timeout,
            passthrough: config.passthrough,
            loopback: uses_loopback(config),
        });
        let publishes = PublishCounts::register(&registry, &node_id);
        let admission = Admission::new(sessions.clone(), publishes, config.on_duplicate);
        let listing = control.serve_list(list_of(&sessions));
        let context = Context {
            config,
            control,
            capacity: capacity.clone(),
            metrics: registry.clone(),
            sessions: sessions.registry().clone(),
            participants,
            workers,
        };
        let listeners = inputs::open(&context).await?;
        let pages = open_pages(config, registry, capacity).await?;
        info!(version = env!("CARGO_PKG_VERSION"), listening = %listeners, "ready");
        Ok(Self {
            sessions,
            admission,
            listeners,
            drain_timeout: config.drain_timeout,
            end_waiting_workers,
            keeper,
            _sampler: sampler,
            _pages: pages,
            _listing: listing,
        })
    }

    /// Serves until a signal ends it, drains if it asks for that, and stops.
    pub(crate) async fn serve(mut self, mut signals: Signals) {
        let shutdown = self.serve_until_signal(&mut signals).await;
        self.admit_nobody();
        let deadline = match shutdown {
            Shutdown::Drain => self.drain(&mut signals).await,
            Shutdown::Stop => STOP_DEADLINE,
        };
        self.stop(&mut signals, deadline).await;
    }

    async fn serve_until_signal(&mut self, signals: &mut Signals) -> Shutdown {
        loop {
            tokio::select! {
                shutdown = signals::next(signals) => return shutdown,
                () = self.answer_one() => {}
            }
        }
    }

    /// Takes the next publisher, and answers it in a task of its own. Cancel safe.
    async fn answer_one(&mut self) {
        let request = self.listeners.next().await;
        let admission = self.admission.clone();
        tokio::spawn(async move { admission.admit(request).await });
    }

    fn admit_nobody(&mut self) {
        self.sessions.drain();
        self.listeners.drain();
        (self.end_waiting_workers)();
    }

    /// Waits until the sessions that run have ended, but no longer than configured, and not beyond another signal. Gives how long
    /// those left may take to end.
    async fn drain(&mut self, signals: &mut Signals) -> Duration {
        let sessions = self.sessions.clone();
        info!(sessions = sessions.registry().list().len(), "draining: running sessions go on, nobody new is admitted");
        sessions.hand_over_pulls();
        let deadline = Instant::now() + self.drain_timeout;
        loop {
            tokio::select! {
                () = sessions.idle() => return STOP_DEADLINE,
                () = sleep_until(deadline) => {
                    warn!("the drain timeout is over: the sessions still running are ended");
                    return STOP_DEADLINE;
                }
                _ = signals::next(signals) => return SECOND_SIGNAL_STOP_DEADLINE,
                // Publishers are refused, with the advice to connect again, elsewhere.
                () = self.answer_one() => {}
            }
        }
    }

    /// Closes the ports and ends all sessions in order.
    async fn stop(self, signals: &mut Signals, deadline: Duration) {
        drop(self.listeners);
        self.sessions.stop_all();
        tokio::select! {
            () = self.sessions.idle() => {}
            () = sleep(deadline) => error!("some sessions did not end in time"),
            _ = signals::next(signals) => warn!("ended without waiting for sessions"),
        }
        self.keeper.say_goodbye().await;
    }
}

/// The registry of metrics, with those of the process and the machine.
fn registry(node_id: &str, capacity: &Capacity, control: Arc<dyn ControlPlane>) -> Registry {
    let registry = Registry::default();
    metrics::register_machine(&registry, node_id, env!("CARGO_PKG_VERSION"), capacity);
    metrics::register_process(&registry, "/proc");
    metrics::register_control(&registry, control);
    registry
}

/// The ids of all sessions, for the control plane.
fn list_of(sessions: &Sessions) -> Arc<dyn Fn() -> Vec<(IngressId, ResourceId)> + Send + Sync> {
    let registry = sessions.registry().clone();
    Arc::new(move || {
        let ids = |entry: session::registry::Entry| (entry.ingress_id, entry.resource_id);
        registry.list().into_iter().map(ids).collect()
    })
}

async fn open_pages(config: &Config, registry: Registry, capacity: Capacity) -> Result<Vec<http::Server>, Fault> {
    let pages = [
        (config.health, "health_port", http::health(capacity)),
        (config.prometheus, "prometheus_port", http::metrics(registry)),
    ];
    let mut servers = Vec::new();
    for (page, key, router) in pages {
        let Some(port) = page.port else { continue };
        let listener = http::listen(page.bind_address.unwrap_or(config.bind_address), port, key).await?;
        let started = http::serve(listener, router, http::Limits::default());
        servers.push(started.map_err(|e| Fault::new(Blame::Us, format!("{key}: port {port}: {e}")))?);
    }
    Ok(servers)
}

/// Media to a livekit-server on this very machine may go over its loopback interface; to others it can't.
fn uses_loopback(config: &Config) -> bool {
    let local = match config.ws_url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    local || config.rtc.enable_loopback_candidate
}

#[cfg(test)]
mod tests;
