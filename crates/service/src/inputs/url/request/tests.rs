//! Requests to pull, from the control plane to a session and back, on virtual time.

use super::*;
use crate::config::OnDuplicate;
use crate::control::embedded::ingress;
use crate::control::{ControlPlane, Resolved, StartRequest};
use crate::inputs::context::Context;
use crate::inputs::listener::Listener;
use crate::testing::{Stage, finish};
use model::{IngressId, ResourceId, Secret};
use session::lifecycle::Stop;
use session::registry::Command;
use session::{Report, Status};
use tokio::sync::oneshot;

fn pulled() -> Resolved {
    let mut pulled = ingress(InputKind::Url, "film");
    pulled.spec.url = Secret::new("https://example.org/film.mp4");
    pulled
}

fn id() -> IngressId {
    IngressId("IN_film".into())
}

fn open(stage: &Stage) -> Box<dyn Listener> {
    let config = crate::testing::config();
    let context = Context {
        config: &config,
        control: stage.control.clone(),
        capacity: stage.capacity.clone(),
        metrics: stage.metrics.clone(),
        sessions: stage.sessions.registry().clone(),
        participants: Arc::<crate::testing::FakeParticipants>::default(),
        workers: stage.workers.clone(),
    };
    crate::inputs::url::open::open(&context).expect("it is always offered")
}

/// Asks for a URL to be pulled, and has the request decided.
async fn start(stage: &Stage, listener: &mut Box<dyn Listener>, ingress: Resolved) -> Result<Report, Fault> {
    let answer = stage.control.embedded.start(ingress).expect("this machine bids");
    decide(stage, listener, answer).await
}

async fn decide(
    stage: &Stage,
    listener: &mut Box<dyn Listener>,
    answer: oneshot::Receiver<Result<Report, Fault>>,
) -> Result<Report, Fault> {
    let request = listener.next().await;
    stage.admission.admit(request).await;
    answer.await.expect("it is answered")
}

#[tokio::test(start_paused = true)]
async fn a_url_is_pulled_once_however_often_it_is_asked_for() {
    let stage = Stage::new(OnDuplicate::Refuse);
    let mut listener = open(&stage);
    let first = start(&stage, &mut listener, pulled()).await.unwrap();
    assert!(first.resource_id.0.starts_with("UR_") && first.status == Status::Buffering, "{first:?}");
    stage.settle().await;
    assert_eq!(
        stage.control.embedded.newest(&id()).unwrap().resource_id,
        first.resource_id,
        "it is known, and reported"
    );
    let again = start(&stage, &mut listener, pulled()).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(stage.carried(), 1);
    stage.sessions.registry().list()[0].tell(Command::Stop(Stop::Shutdown)).unwrap();
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_does_not_wait_for_a_session_that_is_ending() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let mut listener = open(&stage);
    let (feed, _) = stage.push("k").await.accepted();
    finish(&feed).await;
    stage.settle().await;
    let mut changed = pulled();
    changed.spec.ingress_id = IngressId("IN_k".into());
    let begin = Instant::now();
    let fault = start(&stage, &mut listener, changed).await.unwrap_err();
    assert!(fault.retry && fault.text.contains("still ending"), "{fault}");
    assert_eq!(begin.elapsed(), Duration::ZERO, "livekit-server asks again, elsewhere");
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_url_that_cannot_be_pulled_is_refused_and_not_stored() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let mut listener = open(&stage);
    let mut odd = pulled();
    odd.spec.url = Secret::new("gopher://example.org");
    let fault = start(&stage, &mut listener, odd).await.unwrap_err();
    assert!(fault.text.starts_with("invalid ingress: unsupported URL type"), "{fault}");
    *stage.workers.failing.lock().unwrap() = true;
    let fault = start(&stage, &mut listener, pulled()).await.unwrap_err();
    assert!(fault.retry && fault.text.contains("the worker that pulls could not be started"), "{fault}");
    assert_eq!(stage.control.stored(&id()).await, Ok(None), "no ingress that nobody knows of is left");
    *stage.control.serve_fault.lock().unwrap() = Some(Fault::transient(Blame::Control, "no answer"));
    assert_eq!(start(&stage, &mut listener, pulled()).await.unwrap_err().blame, Blame::Control);
    assert_eq!((stage.control.tried(), stage.metrics.page().unwrap().contains("publish_status")), (vec![], false));
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_costs_the_request() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let hangs = Box::new(|| -> BoxFuture<'static, Result<(), Fault>> { Box::pin(std::future::pending()) });
    let (start, answer) = StartRequest::new(pulled(), hangs);
    let request = Request::new(start, Arc::default(), stage.workers.clone(), Pulls::default(), Arc::default());
    let begin = Instant::now();
    stage.admission.admit(Box::new(request)).await;
    let fault = answer.await.unwrap().unwrap_err();
    assert!(fault.text.contains("in time") && begin.elapsed() == ANSWER_DEADLINE, "{fault} {:?}", begin.elapsed());
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_bids_by_what_it_can_carry() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let mut listener = open(&stage);
    let first = start(&stage, &mut listener, pulled()).await.unwrap();
    stage.capacity.set_idle(0.0);
    let mut other = ingress(InputKind::Url, "other");
    other.spec.url = Secret::new("https://example.org/other.mp4");
    assert!(stage.control.embedded.start(other.clone()).is_none(), "no bid where it does not fit");
    let again = start(&stage, &mut listener, pulled()).await.unwrap();
    assert_eq!(again.resource_id, first.resource_id, "what runs here is asked for here again");
    stage.sessions.drain();
    stage.capacity.set_idle(8.0);
    assert!(stage.control.embedded.start(other.clone()).is_none(), "nor while draining");
    let answer = stage.control.embedded.start(pulled()).expect("it runs here");
    let fault = decide(&stage, &mut listener, answer).await.unwrap_err();
    assert_eq!((fault.blame, fault.text.as_str()), (Blame::Draining, "server shutting down"));
    listener.drain();
    assert!(stage.control.embedded.start(pulled()).is_none(), "it is out of the selection");
    assert_eq!(stage.control.embedded.serving(), [(id(), ResourceId(first.resource_id.0))]);
}
