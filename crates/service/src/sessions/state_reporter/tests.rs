//! Reports against a control plane that fails, on virtual time.

use super::*;
use crate::config::OnDuplicate;
use crate::control::embedded::ingress;
use crate::control::{StartRequests, started_after};
use crate::recovery::Ledger;
use crate::testing::{ScriptedControl, Stage};
use model::{Blame, Fault, IngressId, InputKind, ResourceId};
use session::registry::Slot;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

/// A state reporter, and the ends of what it works between.
struct Reporter {
    control: Arc<ScriptedControl>,
    registry: Registry,
    ledger: Ledger,
    slot: Option<Slot>,
    reports: Option<mpsc::Sender<Report>>,
    task: JoinHandle<()>,
    begin: Instant,
    portable: Portable,
    drains: watch::Sender<bool>,
}

fn id() -> IngressId {
    IngressId("IN_k".into())
}

impl Reporter {
    async fn new(errors: impl IntoIterator<Item = ReportError>) -> Self {
        Self::of(InputKind::Rtmp, errors, Arc::default()).await
    }

    /// Of a session with this input, whose instance has these turns.
    async fn of(input: InputKind, errors: impl IntoIterator<Item = ReportError>, turns: Arc<Turns>) -> Self {
        let control = Arc::<ScriptedControl>::default();
        control.embedded.put(ingress(input, "k"));
        *control.report_errors.lock().unwrap() = errors.into_iter().collect();
        let registry = Registry::default();
        let started_at = UNIX_EPOCH + Duration::from_nanos(1);
        let slot = registry.enter(id(), ResourceId("RT_a".into()), input, true, started_at).unwrap();
        let commands = control.serve_session(&id(), &slot.entry.resource_id).await.unwrap();
        let (reports, queue) = mpsc::channel(8);
        let ledger = Ledger::default();
        let recorded = ledger.enter(id(), slot.entry.resource_id.clone(), 1);
        let begun = (slot.entry.clone(), ingress(input, "k").spec);
        let (portable, drains) = (Portable::default(), watch::Sender::new(false));
        let pull = Pull { portable: portable.clone(), drains: drains.subscribe(), turns };
        let reporter = StateReporter::new(control.clone(), registry.clone(), begun, commands, recorded, pull);
        let task = tokio::spawn(reporter.run(queue));
        let (slot, reports, begin) = (Some(slot), Some(reports), Instant::now());
        Self { control, registry, ledger, slot, reports, task, begin, portable, drains }
    }

    async fn report(&self, status: Status) {
        let first = Report::first(ResourceId("RT_a".into()), status, String::new(), SystemTime::now());
        let report = Report { started_at: 1, updated_at: 2 + status as i64, ..first };
        self.reports.as_ref().unwrap().send(report).await.unwrap();
        settle().await;
    }

    /// The session's task has ended.
    fn end(&mut self) {
        self.reports = None;
        self.slot = None;
    }

    /// When reports were tried, in milliseconds.
    fn times(&self) -> Vec<u128> {
        self.control.attempts.lock().unwrap().iter().map(|(at, _)| (*at - self.begin).as_millis()).collect()
    }
}

/// Lets everything happen that needs no time to pass.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn away() -> ReportError {
    ReportError::Unreachable(Fault::transient(Blame::Control, "Redis is not reachable"))
}

#[tokio::test(start_paused = true)]
async fn a_report_is_retried_with_backoff() {
    let reporter = Reporter::new(vec![away(); 7]).await;
    reporter.report(Status::Buffering).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(reporter.times(), [0, 500, 1_500, 3_500, 7_500, 15_500, 25_500, 35_500]);
    assert_eq!(reporter.control.embedded.newest(&id()).unwrap().status, Status::Buffering);
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_report_is_retried() {
    let reporter = Reporter::new(vec![away(); 2]).await;
    reporter.report(Status::Buffering).await;
    reporter.report(Status::Publishing).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(reporter.control.tried(), [Status::Buffering, Status::Publishing, Status::Publishing]);
    assert_eq!(reporter.times(), [0, 0, 500], "the backoff begins again");
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_cannot_help_waits_for_the_next_look() {
    let refused = ReportError::Unreachable(Fault::new(Blame::Control, "livekit-server refused"));
    let reporter = Reporter::new([refused]).await;
    reporter.report(Status::Buffering).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(reporter.control.tried(), [Status::Buffering]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reporter.control.tried().len(), 2);
    reporter.report(Status::Publishing).await;
    assert_eq!(reporter.control.tried().len(), 3, "the next report is tried at once");
}

#[tokio::test(start_paused = true)]
async fn a_command_is_answered_by_the_session_that_counts() {
    let mut reporter = Reporter::new([]).await;
    reporter.report(Status::Publishing).await;
    // Another instance has a session of the ingress, which began later.
    let control = reporter.control.clone();
    let elsewhere = Report::first(ResourceId("RT_b".into()), Status::Publishing, String::new(), SystemTime::now());
    control.report(&id(), &elsewhere).await.unwrap();
    let mut there = control.serve_session(&id(), &elsewhere.resource_id).await.unwrap();
    let answers = async {
        match there.recv().await {
            Some(SessionCommand::Update { reply }) => reply.send(elsewhere.clone()),
            other => panic!("{other:?}"),
        }
    };
    let ingress = id();
    let (answer, ()) = tokio::join!(control.embedded.update(&ingress), answers);
    assert_eq!(answer.unwrap().resource_id, elsewhere.resource_id);
    reporter.end();
    reporter.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reported_after_the_ingress_was_deleted() {
    let mut reporter = Reporter::new([ReportError::Deleted]).await;
    reporter.report(Status::Buffering).await;
    reporter.report(Status::Publishing).await;
    reporter.report(Status::Error).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert_eq!(reporter.control.tried(), [Status::Buffering]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reported_after_a_delete_was_answered() {
    let mut reporter = Reporter::new(vec![away(); 9]).await;
    reporter.report(Status::Publishing).await;
    let control = reporter.control.clone();
    let answer = control.embedded.delete(&id()).await.expect("it is answered");
    assert_eq!((answer.status, answer.started_at), (Status::Inactive, 1));
    let tried = control.tried().len();
    reporter.report(Status::Error).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert_eq!(control.tried().len(), tried, "not even the retry that was due");
}

#[tokio::test(start_paused = true)]
async fn an_update_is_answered_and_the_end_reported() {
    let mut reporter = Reporter::new([]).await;
    reporter.report(Status::Publishing).await;
    let control = reporter.control.clone();
    assert_eq!(control.embedded.update(&id()).await.unwrap().status, Status::Inactive);
    reporter.report(Status::Inactive).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert_eq!(control.tried(), [Status::Publishing, Status::Inactive]);
}

#[tokio::test(start_paused = true)]
async fn a_last_report_is_retried_until_it_is_stored() {
    let mut reporter = Reporter::new(vec![away(); 400]).await;
    reporter.report(Status::Inactive).await;
    reporter.end();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let noted = reporter.ledger.noted();
    assert_eq!(noted[0].end.as_ref().unwrap().status, Status::Inactive, "who finds this instance gone stores it");
    reporter.task.await.unwrap();
    assert!(reporter.begin.elapsed() > Duration::from_secs(3_600));
    assert_eq!(reporter.control.embedded.newest(&id()).unwrap().status, Status::Inactive);
    assert_eq!(reporter.ledger.noted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_last_report_gives_way_to_the_next_session() {
    let mut reporter = Reporter::new(vec![away(); 100]).await;
    reporter.report(Status::Inactive).await;
    reporter.slot = None;
    let _next =
        reporter.registry.enter(id(), ResourceId("RT_b".into()), InputKind::Rtmp, true, SystemTime::now()).unwrap();
    reporter.end();
    reporter.task.await.unwrap();
    assert!(reporter.begin.elapsed() < Duration::from_secs(1), "{:?}", reporter.begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_the_retries_of_a_last_report() {
    let mut reporter = Reporter::new(vec![away(); 100]).await;
    reporter.report(Status::Inactive).await;
    reporter.end();
    let control = reporter.control.clone();
    control.embedded.delete(&id()).await.expect("it is answered");
    let tried = control.tried().len();
    reporter.task.await.unwrap();
    assert_eq!(control.tried().len(), tried);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panicked_is_reported_as_an_error() {
    let mut reporter = Reporter::new([]).await;
    reporter.report(Status::Publishing).await;
    reporter.end();
    reporter.task.await.unwrap();
    let last = reporter.control.embedded.newest(&id()).unwrap();
    assert_eq!(last.status, Status::Error);
    assert!(last.error.contains("please report this") && last.ended_at > 0, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_ingress_ends_its_session() {
    let stage = Stage::new(OnDuplicate::Takeover);
    stage.control.report_errors.lock().unwrap().push_back(ReportError::Deleted);
    let (feed, _) = stage.push("k").await.accepted();
    let told = feed.stopped.await.unwrap().expect("the encoder is told why");
    assert!(told.text.contains("deleted"), "{told}");
    stage.idle().await;
    assert_eq!(stage.control.tried(), [Status::Buffering]);
}

// Hand-over ------------------------------------------------------------------------------------------------------------------

/// Another instance that takes requests to pull.
struct Other {
    control: Arc<ScriptedControl>,
    requests: StartRequests,
}

impl Other {
    fn new(control: &Arc<ScriptedControl>) -> Self {
        Self { control: control.clone(), requests: control.start_requests(Arc::new(|_| Some(1.0))) }
    }

    /// Takes the next request, and stores this state of the session that begins.
    async fn takes(&mut self, status: Status) -> Report {
        let request = self.requests.recv().await.expect("a request");
        let state = self.state(request.resolved.stored.as_ref(), status);
        request.accept(state.clone());
        self.control.embedded.report(&id(), &state).await.unwrap();
        state
    }

    fn state(&self, before: Option<&Report>, status: Status) -> Report {
        let started_at = started_after(before, UNIX_EPOCH);
        Report::first(ResourceId("UR_b".into()), status, String::new(), started_at)
    }
}

/// A live pull of an instance that drains.
async fn draining_pull() -> Reporter {
    let reporter = Reporter::of(InputKind::Url, [], Arc::default()).await;
    reporter.report(Status::Publishing).await;
    reporter.portable.set(true);
    reporter.drains.send_replace(true);
    reporter
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_handed_over_and_nothing_but_publishing_is_stored() {
    let mut reporter = draining_pull().await;
    let control = reporter.control.clone();
    let mut states = control.embedded.states();
    let mut other = Other::new(&control);
    let theirs = other.takes(Status::Buffering).await;
    // It is in the room: this participant is thrown out.
    let publishing = Report { status: Status::Publishing, updated_at: theirs.updated_at + 1, ..theirs.clone() };
    control.embedded.report(&id(), &publishing).await.unwrap();
    reporter.report(Status::Error).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert!(reporter.begin.elapsed() < Duration::from_secs(1), "{:?}", reporter.begin.elapsed());
    assert_eq!(control.embedded.newest(&id()).unwrap(), publishing);
    while let Ok((_, state)) = states.try_recv() {
        assert_eq!(state.resource_id, theirs.resource_id, "{state:?}");
    }
    assert_eq!(reporter.ledger.noted(), [], "nobody has to put it right");
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_nobody_takes_goes_on() {
    let mut reporter = draining_pull().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = reporter.control.handed_over.lock().unwrap().len();
    assert!((10..=14).contains(&asked), "asked {asked} times");
    reporter.report(Status::Complete).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert_eq!(reporter.control.embedded.newest(&id()).unwrap().status, Status::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_delete_while_another_is_asked_is_answered() {
    let mut reporter = draining_pull().await;
    let control = reporter.control.clone();
    let mut other = Other::new(&control);
    let request = other.requests.recv().await.expect("a request");
    let answer = control.embedded.delete(&id()).await.expect("it is answered");
    assert_eq!(answer.status, Status::Inactive);
    let theirs = other.state(request.resolved.stored.as_ref(), Status::Buffering);
    request.accept(theirs.clone());
    assert_eq!(control.embedded.report(&id(), &theirs).await, Err(ReportError::Deleted), "theirs ends, too");
    reporter.report(Status::Inactive).await;
    reporter.end();
    reporter.task.await.unwrap();
    assert_eq!(control.embedded.newest(&id()).unwrap().status, Status::Publishing, "nothing more was reported");
}

#[tokio::test(start_paused = true)]
async fn an_instance_hands_over_one_after_the_other() {
    let turns = Arc::<Turns>::default();
    let mut asked = Vec::new();
    for _ in 0..4 {
        let reporter = Reporter::of(InputKind::Url, [], turns.clone()).await;
        reporter.report(Status::Publishing).await;
        reporter.portable.set(true);
        reporter.drains.send_replace(true);
        asked.push(reporter);
    }
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    let mut times: Vec<_> = asked.iter().map(|r| r.control.handed_over.lock().unwrap().clone()).collect();
    times.sort();
    let times: Vec<_> = times.into_iter().flatten().collect();
    assert_eq!(times.len(), 4);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= super::super::turns::TURN), "{times:?}");
}
