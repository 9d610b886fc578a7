//! Instances that come and go around one control plane, on virtual time.

use super::*;
use crate::control::embedded::ingress;
use crate::testing::ScriptedControl;
use model::{IngressId, InputKind, ResourceId};
use session::{Report, Status};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

struct Instance {
    ledger: Ledger,
    keeper: Keeper,
}

impl Instance {
    fn start(control: &Arc<ScriptedControl>, name: &str) -> Self {
        let ledger = Ledger::default();
        let keeper = Keeper::start(control.clone(), name.into(), ledger.clone());
        Self { ledger, keeper }
    }
}

fn id() -> IngressId {
    IngressId("IN_k".into())
}

fn resource() -> ResourceId {
    ResourceId("RT_a".into())
}

async fn control() -> Arc<ScriptedControl> {
    let control = Arc::<ScriptedControl>::default();
    control.embedded.put(ingress(InputKind::Rtmp, "k"));
    let report = Report::first(resource(), Status::Publishing, String::new(), SystemTime::now());
    control.report(&id(), &report).await.unwrap();
    control
}

fn status(control: &ScriptedControl) -> Status {
    control.embedded.newest(&id()).unwrap().status
}

async fn records(control: &ScriptedControl) -> Vec<String> {
    control.instances().read().await.unwrap().into_iter().map(|stored| stored.instance).collect()
}

#[tokio::test(start_paused = true)]
async fn a_killed_instance_is_put_right_and_a_live_one_left() {
    let control = control().await;
    let killed = Instance::start(&control, "killed");
    let recorded = killed.ledger.enter(id(), resource(), 1);
    recorded.written().await;
    let others = ["one", "two"].map(|name| Instance::start(&control, name));
    tokio::time::sleep(SECOND * 300).await;
    assert_eq!((status(&control), control.tried().len()), (Status::Publishing, 1), "it lives");
    drop(killed.keeper);
    let begin = Instant::now();
    while status(&control) == Status::Publishing {
        tokio::time::sleep(SECOND / 10).await;
    }
    assert!(begin.elapsed() >= SECOND * 15 && begin.elapsed() <= SECOND * 30, "{:?}", begin.elapsed());
    tokio::time::sleep(SECOND * 60).await;
    let state = control.embedded.newest(&id()).unwrap();
    assert!(state.status == Status::Error && state.error.contains("connect again"), "{state:?}");
    assert_eq!(control.tried(), [Status::Publishing, Status::Error], "one of the two does it");
    assert_eq!(records(&control).await, ["one", "two"]);
    for Instance { keeper, .. } in others {
        keeper.say_goodbye().await;
    }
    assert_eq!(records(&control).await, [""; 0], "none is left for ever");
}

#[tokio::test(start_paused = true)]
async fn the_next_start_stores_an_end_that_was_left() {
    let control = control().await;
    let ending = Instance::start(&control, "ending");
    let recorded = ending.ledger.enter(id(), resource(), 1);
    let end = Report { status: Status::Inactive, ended_at: i64::MAX, ..control.embedded.newest(&id()).unwrap() };
    recorded.set(1, Some(&end));
    ending.keeper.say_goodbye().await;
    let _next = Instance::start(&control, "next");
    tokio::time::sleep(SECOND).await;
    assert_eq!(status(&control), Status::Inactive, "at once: it said that it has ended");
    assert_eq!(records(&control).await, ["next"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_is_tried_until_it_can() {
    let control = control().await;
    let killed = Instance::start(&control, "killed");
    let recorded = killed.ledger.enter(id(), resource(), 1);
    recorded.written().await;
    drop(killed.keeper);
    let away = || ReportError::Unreachable(Fault::transient(Blame::Control, "away"));
    control.report_errors.lock().unwrap().extend([away(), away(), away()]);
    let _next = Instance::start(&control, "next");
    tokio::time::sleep(SECOND * 25).await;
    assert_eq!((status(&control), records(&control).await.len()), (Status::Publishing, 2));
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!((status(&control), records(&control).await.len()), (Status::Error, 1));
}

#[tokio::test(start_paused = true)]
async fn sessions_learn_that_the_record_was_lost() {
    let control = control().await;
    let instance = Instance::start(&control, "me");
    let mut recorded = instance.ledger.enter(id(), resource(), 1);
    recorded.written().await;
    tokio::time::sleep(SECOND * 12).await;
    control.instances().remove("me").await.unwrap();
    let begin = Instant::now();
    assert_eq!(recorded.lost().await, Loss::Forgotten);
    assert!(begin.elapsed() <= BEAT_INTERVAL);
    // It is written again, once.
    assert_eq!(records(&control).await, ["me"]);
    assert!(timeout(SECOND * 60, recorded.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_redis_has_lost_is_stored_again() {
    let control = control().await;
    let instance = Instance::start(&control, "me");
    let before = control.embedded.newest(&id()).unwrap();
    let recorded = instance.ledger.enter(id(), resource(), 1);
    recorded.written().await;
    let end = Report { status: Status::Inactive, updated_at: before.updated_at + 9, ..before.clone() };
    recorded.finish(end);
    // The store stands as it did before the end, and the record is of another time, too.
    control.instances().remove("me").await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(status(&control), Status::Inactive);
}
