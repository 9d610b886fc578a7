//! The whole service with a control plane in this process, on virtual time: started, drained and stopped by each signal.

use super::*;
use crate::config::CpuCost;
use crate::control::embedded::{Embedded, ingress};
use crate::load::Roots;
use crate::testing::{FakeParticipants, SilentWorkers, config};
use model::{InputKind, Secret};
use session::{Report, Status};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

/// As if it were not asked for.
fn unconfined() -> Confinement {
    Confinement { support: confine::Support::none(), killed: Box::new(|| 0) }
}

/// A service that runs, and the ends of what it is built between.
struct Running {
    control: Embedded,
    states: broadcast::Receiver<(IngressId, Report)>,
    signals: mpsc::Sender<Shutdown>,
    waiting_workers_ended: Arc<AtomicBool>,
    task: JoinHandle<()>,
    begin: Instant,
}

impl Running {
    /// With a free port for RTMP, for the pages, and sessions that end within this time once it drains.
    async fn new(drain_timeout: Duration) -> Self {
        let mut config = config();
        (config.rtmp.port, config.health.port, config.prometheus.port) = (Some(0), Some(0), Some(0));
        config.drain_timeout = drain_timeout;
        config.cpu_cost = CpuCost {
            rtmp: Some(0.0),
            whip: Some(0.0),
            whip_bypass_transcoding: Some(0.0),
            url: Some(0.0),
            min_idle_ratio: 0.3,
        };
        let control = Embedded::new();
        let waiting_workers_ended = Arc::<AtomicBool>::default();
        let ended = waiting_workers_ended.clone();
        let world = Dependencies {
            node_id: "NE_x".into(),
            confinement: unconfined(),
            cpu: Cpu::find(&Roots::default(), Some("8")),
            control: Arc::new(control.clone()),
            participants: Arc::<FakeParticipants>::default(),
            workers: Arc::<SilentWorkers>::default(),
            end_waiting_workers: Box::new(move || ended.store(true, Ordering::Relaxed)),
        };
        let service = Service::start(&config, world).await.expect("it starts");
        let (signals, receiver) = mpsc::channel(4);
        let (states, begin) = (control.states(), Instant::now());
        let task = tokio::spawn(service.serve(receiver));
        Self { control, states, signals, waiting_workers_ended, task, begin }
    }

    /// Has a URL pulled.
    async fn start(&self, name: &str) -> Result<Report, Fault> {
        let mut pulled = ingress(InputKind::Url, name);
        pulled.spec.url = Secret::new("https://example.org/film.mp4");
        let answer = self.control.start(pulled).ok_or_else(|| Fault::new(Blame::Draining, "no bid"))?;
        answer.await.expect("it is answered")
    }

    async fn signal(&self, shutdown: Shutdown) {
        self.signals.send(shutdown).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// The statuses that were stored, once the service has ended, and how long it ran.
    async fn end(mut self) -> (Vec<Status>, Duration) {
        self.task.await.expect("it ends in order");
        assert!(self.waiting_workers_ended.load(Ordering::Relaxed));
        assert!(self.control.serving().is_empty(), "no session is left");
        let mut statuses = Vec::new();
        while let Ok((_, report)) = self.states.try_recv() {
            statuses.push(report.status);
        }
        (statuses, self.begin.elapsed())
    }
}

/// More than any session of these tests may live.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn an_idle_service_ends_by_each_signal() {
    for shutdown in [Shutdown::Drain, Shutdown::Stop] {
        let service = Running::new(LONG).await;
        service.signal(shutdown).await;
        let (statuses, lasted) = service.end().await;
        assert!(statuses.is_empty() && lasted < Duration::from_secs(1), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_sessions_and_admits_nobody() {
    let service = Running::new(LONG).await;
    let running = service.start("a").await.unwrap();
    assert_eq!(service.control.listed(), Some(vec![(IngressId("IN_a".into()), running.resource_id)]));
    service.signal(Shutdown::Drain).await;
    assert!(service.start("b").await.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!service.task.is_finished(), "its session goes on");
    service.control.update(&IngressId("IN_a".into())).await.expect("it can still be commanded");
    let (statuses, lasted) = service.end().await;
    assert_eq!(statuses, [Status::Buffering, Status::Inactive]);
    assert!(lasted < Duration::from_secs(9), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_sessions_at_its_deadline() {
    let service = Running::new(Duration::from_secs(4)).await;
    service.start("a").await.unwrap();
    service.signal(Shutdown::Drain).await;
    let (statuses, lasted) = service.end().await;
    assert_eq!(statuses, [Status::Buffering, Status::Inactive]);
    assert!(lasted >= Duration::from_secs(4) && lasted < Duration::from_secs(4) + STOP_DEADLINE, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn sigint_ends_sessions_in_order() {
    let service = Running::new(LONG).await;
    service.start("a").await.unwrap();
    service.start("b").await.unwrap();
    service.signal(Shutdown::Stop).await;
    let (statuses, lasted) = service.end().await;
    assert_eq!(statuses.iter().filter(|status| **status == Status::Inactive).count(), 2, "{statuses:?}");
    assert!(lasted < STOP_DEADLINE, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_drain_in_order() {
    for second in [Shutdown::Drain, Shutdown::Stop] {
        let service = Running::new(LONG).await;
        service.start("a").await.unwrap();
        service.signal(Shutdown::Drain).await;
        service.signal(second).await;
        let (statuses, lasted) = service.end().await;
        assert_eq!(statuses, [Status::Buffering, Status::Inactive]);
        assert!(lasted < SECOND_SIGNAL_STOP_DEADLINE, "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_sigint_waits_for_nothing() {
    let service = Running::new(LONG).await;
    service.start("a").await.unwrap();
    service.signals.send(Shutdown::Stop).await.unwrap();
    service.signals.send(Shutdown::Stop).await.unwrap();
    let begin = Instant::now();
    service.task.await.expect("it ends in order");
    assert!(begin.elapsed() < Duration::from_millis(50), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_port_in_use_keeps_the_service_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.rtmp.port = Some(taken.local_addr().unwrap().port());
    let world = Dependencies {
        node_id: "NE_x".into(),
        confinement: unconfined(),
        cpu: Cpu::find(&Roots::default(), None),
        control: Arc::new(Embedded::new()),
        participants: Arc::<FakeParticipants>::default(),
        workers: Arc::<SilentWorkers>::default(),
        end_waiting_workers: Box::new(|| {}),
    };
    let fault = Service::start(&config, world).await.err().expect("it does not start");
    assert!(fault.text.starts_with("rtmp_port: port ") && fault.text.contains("in use"), "{fault}");
}
