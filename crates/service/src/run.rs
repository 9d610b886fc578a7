//! The program as a server: sets up logs, limits and threads, connects to livekit-server's control plane, and runs the service
//! until a signal ends it.
//!
//! SIGTERM and SIGQUIT drain: nobody new is admitted, running sessions go on, the program ends with the last of them. SIGINT
//! ends the sessions in order, and then the program. A second signal ends the drain; a third does not wait for anything.

mod confinement;
mod service;
mod signals;

use crate::config::{Config, Warning};
use crate::control::livekit::LiveKit;
use crate::descriptors;
use crate::load::{Cpu, Roots};
use crate::telemetry;
use confine::Support;
use confinement::Confinement;
use model::{Blame, Fault};
use service::{Dependencies, Service};
use session::participant::LiveKitParticipants;
use session::workers::{Pool, Program};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tracing::{info, warn};

/// How long threads that wait for the system may take after everything else has ended.
const BLOCKED_THREADS_DEADLINE: Duration = Duration::from_millis(500);

/// How worker processes are started.
pub struct WorkerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; what a worker is for follows.
    pub arguments: Vec<String>,
    /// Its arguments for the process that makes the registry of GStreamer's plugins.
    pub registry_arguments: Vec<String>,
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps the service from starting.
pub fn run(mut config: Config, warnings: &[Warning], worker: WorkerProgram) -> Result<(), Fault> {
    let node_id = telemetry::node_id();
    // Only a second start within one process finds it installed, and then it serves as well.
    let _ = telemetry::install(&config.logging, &config.service_name, &node_id);
    for warning in warnings {
        warn!("configuration: {warning}");
    }
    if let Some(advice) = descriptors::fit([&mut config.rtmp.max_connections, &mut config.whip.max_connections]) {
        warn!("{advice}");
    }
    let support = confinement::begin(config.confinement)?;
    let cpu = Cpu::find(&Roots::default(), std::env::var("LIVEKIT_CPU_REQUEST").ok().as_deref());
    let runtime = threads(&cpu)?;
    let served = runtime.block_on(serve(config, node_id, cpu, worker, support));
    // A look-up of a name that nobody answers blocks its thread for half a minute.
    runtime.shutdown_timeout(BLOCKED_THREADS_DEADLINE);
    served
}

async fn serve(
    config: Config,
    node_id: String,
    cpu: Cpu,
    worker: WorkerProgram,
    support: Support,
) -> Result<(), Fault> {
    let signals =
        signals::listen().map_err(|e| Fault::new(Blame::Us, format!("signals can't be listened for: {e}")))?;
    let arguments: Vec<&str> = worker.arguments.iter().map(String::as_str).collect();
    let program = Program::new(&worker.program, &arguments, config.confinement);
    let pool = Pool::with_registry(program, confinement::registry(worker.program, worker.registry_arguments));
    let killed = pool.clone();
    let world = Dependencies {
        confinement: Confinement { support, killed: Box::new(move || killed.killed_by_confinement()) },
        node_id,
        cpu,
        control: Arc::new(LiveKit::start(&config)?),
        participants: Arc::new(LiveKitParticipants::new(config.url.guard.proxies.clone())),
        workers: Arc::new(pool.clone()),
        end_waiting_workers: Box::new(move || pool.close()),
    };
    let service = Service::start(&config, world).await?;
    // In the background: the first encoder seldom connects within a tenth of a second, and then it waits no longer than it
    // would.
    drop(tokio::task::spawn_blocking(publish::warm_up));
    service.serve(signals).await;
    info!("stopped");
    Ok(())
}

fn threads(cpu: &Cpu) -> Result<Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread()
        // Media is moved, not computed here; each thread beyond the CPUs we may use only adds memory.
        .worker_threads((cpu.capacity().ceil() as usize).clamp(1, 8))
        .enable_all()
        .build()
        .map_err(|e| Fault::new(Blame::Us, format!("no threads can be started: {e}")))
}
