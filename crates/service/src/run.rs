//! The service from its start to its end: build everything, open the ports, serve until a signal, drain, stop.
//!
//! SIGTERM and SIGQUIT drain: nobody new is let in, running sessions go on, the program ends with the last of them. SIGINT ends
//! the sessions in order, and then the program. A second signal does not wait for anything.

use crate::config::{Config, UrlConfig, Warning};
use crate::control::livekit::LiveKit;
use crate::control::{Affinity, ControlPlane, StartRequest, StartRequests};
use crate::http;
use crate::inputs::rtmp;
use crate::inputs::url as url_input;
use crate::inputs::whip::{Server as WhipServer, open as whip};
use crate::load::{Capacity, Cpu, Roots, Sampler};
use crate::session_metrics::{Reachable, Watcher};
use crate::sessions::{Parts, Sessions};
use crate::telemetry::{self, Metrics, PublishStatus};
use crate::tls;
use model::{Blame, Fault, IngressId, InputKind, ResourceId};
use session::workers::pool::Pool;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, warn};

/// How long sessions may take to end in order: leaving a room is bounded by 1.5 s, and so is nearly all of it.
const STOP: Duration = Duration::from_secs(5);
/// The same after a second signal.
const STOP_NOW: Duration = Duration::from_secs(2);

/// How long threads that wait for the system may take after everything else has ended.
const LAST_THREADS: Duration = Duration::from_millis(500);

/// How transcoder children are started.
pub struct Children {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps the service from starting, in words.
pub fn run(config: Config, warnings: &[Warning], children: Children) -> Result<(), Fault> {
    let node_id = telemetry::node_id();
    // Only a second start within one process finds it installed, and then it serves as well.
    let _ = telemetry::install(&config.logging, &config.service_name, &node_id);
    for warning in warnings {
        warn!("configuration: {warning}");
    }
    if let Some(words) =
        crate::descriptors::raise(config.rtmp.max_connections.saturating_add(config.whip.max_connections))
    {
        warn!("{words}");
    }
    let cpu = Cpu::find(&Roots::default(), std::env::var("LIVEKIT_CPU_REQUEST").ok().as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Media is moved, not computed here; each worker beyond the CPUs we may use only adds memory.
        .worker_threads((cpu.capacity().ceil() as usize).clamp(1, 8))
        .enable_all()
        .build()
        .map_err(|e| Fault::new(Blame::Us, format!("no threads can be started: {e}")))?;
    let served = runtime.block_on(serve(config, children, cpu, &node_id));
    // A look-up of a name that nobody answers blocks its thread for half a minute.
    runtime.shutdown_timeout(LAST_THREADS);
    served
}

struct Signals {
    drain: Signal,
    quit: Signal,
    stop: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Drain,
    Stop,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            drain: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.drain.recv() => Wish::Drain,
            _ = self.quit.recv() => Wish::Drain,
            _ = self.stop.recv() => Wish::Stop,
        }
    }
}

async fn serve(config: Config, children: Children, cpu: Cpu, node_id: &str) -> Result<(), Fault> {
    let mut signals =
        Signals::new().map_err(|e| Fault::new(Blame::Us, format!("signals can't be listened for: {e}")))?;
    let admission = Capacity::new(cpu.capacity(), config.cpu_cost);
    if let Some(advice) = admission.advice() {
        warn!("{advice}");
    }
    let metrics = Metrics::new(node_id, env!("CARGO_PKG_VERSION"), admission.clone());
    let _sampler = Sampler::spawn(cpu, admission.clone());
    let control: Arc<dyn ControlPlane> = Arc::new(LiveKit::start(&config)?);
    metrics.registry().register_collector(Box::new(Reachable(control.clone())));
    let arguments: Vec<&str> = children.arguments.iter().map(String::as_str).collect();
    let pool = Pool::new(children.program, &arguments, true);
    let sessions = Sessions::new(Parts {
        control: control.clone(),
        admission: admission.clone(),
        participants: Arc::new(session::participant::LiveKitParticipants::default()),
        transcoders: Arc::new(pool.clone()),
        observer: Arc::new(Watcher::new(&metrics)),
        on_duplicate: config.on_duplicate,
        loopback: uses_loopback(&config),
    });
    let rtmp = open_rtmp(&config, &metrics).await?;
    let whip = whip::open(&config, control.clone(), admission.clone()).await?;
    let _pages = open_pages(&config, &metrics, &admission).await?;
    let registry = sessions.registry().clone();
    let _listing = control.serve_list(Arc::new(move || {
        let ids = |e: session::registry::Entry| (e.ingress_id, e.resource_id);
        registry.list().into_iter().map(ids).collect::<Vec<(IngressId, ResourceId)>>()
    }));
    let starts = control.start_requests(bids(&sessions, &admission));
    let whip_addresses = whip.as_ref().map(WhipServer::addresses).unwrap_or_default();
    // In the background: the first encoder seldom comes within a tenth of a second, and then it waits no longer than it would.
    drop(tokio::task::spawn_blocking(publish::warm_up));
    info!(version = env!("CARGO_PKG_VERSION"), rtmp = ?rtmp.addresses(), whip = ?whip_addresses, "ready");

    let pulls = Arc::new(config.url.clone());
    let mut servers = Servers { rtmp, whip };
    let wish = serve_until_signal(&sessions, &metrics, &mut servers, (starts, pulls), &mut signals).await;
    sessions.drain();
    pool.close();
    let mut patience = STOP;
    if wish == Wish::Drain {
        info!(sessions = sessions.registry().list().len(), "draining: running sessions go on, nobody new is let in");
        patience = drain(&sessions, &metrics, &mut servers, &mut signals, config.drain_timeout).await;
    }
    stop(&sessions, servers, &mut signals, patience).await;
    info!("stopped");
    Ok(())
}

/// All that publishers reach.
struct Servers {
    rtmp: rtmp::Server,
    whip: Option<WhipServer>,
}

impl Servers {
    /// Takes the next publisher, and answers it in a task of its own. Cancel safe.
    async fn serve_one(&mut self, sessions: &Arc<Sessions>, metrics: &Metrics) {
        tokio::select! {
            request = self.rtmp.next() => {
                tokio::spawn(answer(sessions.clone(), metrics.clone(), request));
            }
            request = whip::next(&mut self.whip) => {
                tokio::spawn(whip::answer(sessions.clone(), metrics.clone(), request));
            }
        }
    }
}

async fn serve_until_signal(
    sessions: &Arc<Sessions>,
    metrics: &Metrics,
    servers: &mut Servers,
    (mut starts, pulls): (StartRequests, Arc<UrlConfig>),
    signals: &mut Signals,
) -> Wish {
    loop {
        tokio::select! {
            wish = signals.next() => return wish,
            () = servers.serve_one(sessions, metrics) => {}
            Some(start) = starts.recv() => {
                tokio::spawn(pull(sessions.clone(), pulls.clone(), start));
            }
        }
    }
}

/// Waits until the sessions that run have ended, but no longer than `patience`, and not beyond another signal. Gives how long
/// those left may take to end.
async fn drain(
    sessions: &Arc<Sessions>,
    metrics: &Metrics,
    servers: &mut Servers,
    signals: &mut Signals,
    patience: Duration,
) -> Duration {
    let deadline = tokio::time::sleep(patience);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = sessions.idle() => return STOP,
            () = &mut deadline => {
                warn!("drained long enough: the sessions still running are ended");
                return STOP;
            }
            _ = signals.next() => return STOP_NOW,
            // Their refusal tells them to connect again, elsewhere.
            () = servers.serve_one(sessions, metrics) => {}
        }
    }
}

/// Ends all sessions in order and closes the ports.
async fn stop(sessions: &Arc<Sessions>, servers: Servers, signals: &mut Signals, patience: Duration) {
    drop(servers);
    sessions.stop_all();
    tokio::select! {
        () = sessions.idle() => {}
        () = tokio::time::sleep(patience) => error!("some sessions did not end in time"),
        _ = signals.next() => warn!("ended without waiting"),
    }
}

async fn answer(sessions: Arc<Sessions>, metrics: Metrics, request: rtmp::Request) {
    let (peer, encoder) = (request.peer, request.encoder.clone().unwrap_or_default());
    match sessions.admit(&request.key, InputKind::Rtmp).await {
        Ok(admitted) => {
            info!(%peer, encoder, key = %request.key, "publisher accepted");
            metrics.publish(InputKind::Rtmp, PublishStatus::Success);
            let source = request.accept();
            sessions.start(admitted, source);
        }
        Err(fault) => {
            // The server logs refusals, but not without end.
            debug!(%peer, encoder, key = %request.key, reason = %fault, "publisher refused");
            metrics.publish(InputKind::Rtmp, PublishStatus::from(&fault));
            request.reject(fault);
        }
    }
}

/// What this machine bids for a URL: all there is for one that it pulls already.
fn bids(sessions: &Arc<Sessions>, admission: &Capacity) -> Affinity {
    /// More than any machine bids that would have to begin.
    const MINE: f32 = 100.0;
    let (registry, admission) = (sessions.registry().clone(), admission.clone());
    Arc::new(move |input, ingress| {
        if input != InputKind::Url {
            return None;
        }
        if registry.get(ingress).is_some() {
            return Some(MINE);
        }
        Some(admission.affinity(input, true)).filter(|bid| *bid > 0.0)
    })
}

async fn pull(sessions: Arc<Sessions>, config: Arc<UrlConfig>, request: StartRequest) {
    let ingress = request.resolved.spec.ingress_id.clone();
    let admitted = match url_input::job(&config, &request.resolved.spec) {
        Ok(job) => sessions.admit_pull(&request).await.map(|(report, new)| (report, new.map(|new| (new, job)))),
        Err(fault) => Err(fault),
    };
    let started = admitted.and_then(|(report, new)| match new {
        Some((new, job)) => sessions.start_pull(new, job).map(|()| report),
        None => Ok(report),
    });
    match started {
        Ok(report) => request.accept(report),
        Err(fault) => {
            warn!(ingressID = %ingress, reason = %fault, "a URL is not pulled");
            request.reject(fault);
        }
    }
}

async fn open_rtmp(config: &Config, metrics: &Metrics) -> Result<rtmp::Server, Fault> {
    let settings = rtmp::Config {
        max_connections: config.rtmp.max_connections as usize,
        max_waiting_per_address: config.rtmp.max_connections_per_address as usize,
        ..rtmp::Config::default()
    };
    let counters = rtmp::Counters::register(metrics.registry().sub_registry_with_prefix("ingress"));
    let mut server = rtmp::Server::new(settings, counters);
    if let Some(port) = config.rtmp.port {
        let listener = http::listen(config.bind_address, port, "rtmp_port").await?;
        server.listen(listener).map_err(|e| Fault::new(Blame::Us, format!("rtmp_port: port {port}: {e}")))?;
    }
    if let Some(rtmps) = &config.rtmp.tls {
        let listener = http::listen(config.bind_address, rtmps.port, "rtmps_port").await?;
        let files = tls::Files { certificate: rtmps.cert_file.clone(), key: rtmps.key_file.clone() };
        let unusable = |e| Fault::new(Blame::Us, format!("rtmps_port: {e}"));
        server.listen_tls(listener, files).map_err(unusable)?;
    }
    Ok(server)
}

async fn open_pages(config: &Config, metrics: &Metrics, admission: &Capacity) -> Result<Vec<http::Server>, Fault> {
    let pages = [
        (config.health_port, "health_port", http::health(admission.clone())),
        (config.prometheus_port, "prometheus_port", http::metrics(metrics.clone())),
    ];
    let mut servers = Vec::new();
    for (port, key, router) in pages {
        let Some(port) = port else { continue };
        let listener = http::listen(config.bind_address, port, key).await?;
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
