//! Publishers of every kind against a control plane within the process, on virtual time.

use super::*;
use crate::control::embedded::ingress;
use crate::testing::{Answer, Stage, finish};
use InputKind::{Rtmp, Whip};
use model::IngressId;
use session::Status;
use session::lifecycle::Stop;
use session::registry::Command;
use tokio::sync::oneshot::error::TryRecvError;

fn id(key: &str) -> IngressId {
    IngressId(format!("IN_{key}"))
}

/// How often publishers of this input were answered like this.
fn counted(stage: &Stage, input: &str, status: &str) -> u32 {
    let page = stage.metrics.page().unwrap();
    let sample = format!("livekit_ingress_publish_status{{node_id=\"NE_x\",type=\"{input}\",status=\"{status}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&sample)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_and_ends() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let (feed, resource_id) = stage.push("k").await.accepted();
    assert!(resource_id.0.starts_with("RT_"), "{resource_id}");
    stage.settle().await;
    let running = stage.control.embedded.newest(&id("k")).unwrap();
    assert_eq!((running.status, &running.resource_id), (Status::Buffering, &resource_id));
    assert_eq!((stage.carried(), stage.control.embedded.serving()), (1, vec![(id("k"), resource_id)]));
    finish(&feed).await;
    stage.idle().await;
    assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().status, Status::Inactive);
    assert_eq!(counted(&stage, "rtmp", "success"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_refused_and_counted() {
    let stage = Stage::new(OnDuplicate::Takeover);
    assert_eq!(stage.push("nobody").await.refused().blame, Blame::Unknown);
    assert_eq!((counted(&stage, "rtmp", "4xx"), stage.control.tried()), (1, vec![]));
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_key_that_exists_counts() {
    let stage = Stage::new(OnDuplicate::Takeover);
    stage.publish(Rtmp, &["nobody", "k", "other"], None).await.accepted();
    *stage.control.lookup_fault.lock().unwrap() = Some(Fault::transient(Blame::Control, "no answer"));
    let fault = stage.publish(Rtmp, &["k", "nobody"], None).await.refused();
    assert_eq!((fault.blame, counted(&stage, "rtmp", "internal")), (Blame::Control, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_input_is_refused_and_stored() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let fault = stage.publish(Whip, &["k"], None).await.refused();
    let stored = stage.control.embedded.newest(&id("k")).unwrap();
    assert_eq!((fault.blame, stored.status, stored.error), (Blame::Mismatch, Status::Error, fault.text));
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_the_state_of_a_running_session() {
    let stage = Stage::new(OnDuplicate::Takeover);
    // It runs on another machine.
    let mut elsewhere = ingress(Rtmp, "far");
    let far = session::Report::first(
        model::ResourceId("RT_far".into()),
        Status::Publishing,
        String::new(),
        std::time::SystemTime::now(),
    );
    elsewhere.stored = Some(far);
    stage.control.embedded.put(elsewhere);
    stage.publish(Whip, &["far"], None).await.refused();
    // It runs here.
    let _running = stage.push("k").await.accepted();
    stage.settle().await;
    stage.publish(Whip, &["k"], None).await.refused();
    stage.settle().await;
    assert_eq!(stage.control.tried(), [Status::Buffering]);
    // It runs here, and nothing of it is stored yet.
    stage.control.embedded.put(ingress(Rtmp, "new"));
    let _running = stage.push("new").await.accepted();
    stage.publish(Whip, &["new"], None).await.refused();
    stage.settle().await;
    assert_eq!(stage.control.embedded.newest(&id("new")).unwrap().status, Status::Buffering);
}

#[tokio::test(start_paused = true)]
async fn a_full_machine_refuses_and_stores_it() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let _other = stage.capacity.try_admit(&ResourceId("WH_x".into()), &ingress(Whip, "other").spec).unwrap();
    stage.capacity.set_idle(0.0);
    let fault = stage.push("k").await.refused();
    assert_eq!((fault.blame, fault.retry), (Blame::Capacity, true));
    assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().error, fault.text);
    assert_eq!((stage.carried(), stage.sessions.registry().is_empty()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_second_encoder_takes_the_session_over() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let (first, session) = stage.push("k").await.accepted();
    let (second, own) = stage.push("k").await.accepted();
    assert_ne!(session, own, "it has an id of its own");
    let told = first.stopped.await.unwrap().expect("the first encoder is told why");
    assert!(told.text.contains("another encoder"), "{told}");
    stage.settle().await;
    assert_eq!((stage.carried(), stage.control.tried()), (1, vec![Status::Buffering]));
    finish(&second).await;
    stage.idle().await;
    assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().resource_id, session);
}

#[tokio::test(start_paused = true)]
async fn a_second_encoder_is_refused_where_configured() {
    let stage = Stage::new(OnDuplicate::Refuse);
    let (mut first, _) = stage.push("k").await.accepted();
    let fault = stage.push("k").await.refused();
    assert_eq!((fault.blame, counted(&stage, "rtmp", "4xx")), (Blame::InUse, 1));
    stage.settle().await;
    assert!(first.stopped.try_recv().is_err(), "the first goes on");
    assert_eq!(stage.control.tried(), [Status::Buffering], "its state stays");
}

#[tokio::test(start_paused = true)]
async fn an_encoder_waits_for_the_session_that_is_ending() {
    for on_duplicate in [OnDuplicate::Takeover, OnDuplicate::Refuse] {
        let stage = Stage::new(on_duplicate);
        let (first, session) = stage.push("k").await.accepted();
        finish(&first).await;
        stage.settle().await;
        assert!(stage.sessions.registry().get(&id("k")).unwrap().is_ending());
        let begin = Instant::now();
        let (_second, own) = stage.push("k").await.accepted();
        assert_ne!(session, own);
        assert!(begin.elapsed() < ENDING_SESSION_WAIT, "{:?}", begin.elapsed());
        assert_eq!(stage.carried(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_wait_for_an_ending_session_share_the_next() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let (first, _) = stage.push("k").await.accepted();
    finish(&first).await;
    stage.settle().await;
    let begin = Instant::now();
    let (second, third) = tokio::join!(stage.push("k"), stage.push("k"));
    assert!(begin.elapsed() < ENDING_SESSION_WAIT, "{:?}", begin.elapsed());
    let feeds = [second.accepted().0, third.accepted().0];
    stage.settle().await;
    assert_eq!(stage.carried(), 1);
    let alive = feeds.into_iter().filter_map(|mut feed| feed.stopped.try_recv().is_err().then_some(()));
    assert_eq!(alive.count(), 1, "one took the session over from the other");
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_comes_too_late_is_told_so() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let (first, _) = stage.push("k").await.accepted();
    // The session ends in the same moment in which another encoder is admitted to it.
    let second = async {
        stage.sessions.registry().get(&id("k")).unwrap().tell(Command::Stop(Stop::Updated)).unwrap();
        stage.push("k").await
    };
    let (feed, _) = second.await.accepted();
    let told = feed.stopped.await.unwrap().expect("it is told why");
    assert!(told.retry && told.text.contains("connect again"), "{told}");
    drop(first);
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn capacity_returns_however_a_session_ends() {
    let stop = |stop| move |stage: &Stage| stage.sessions.registry().list()[0].tell(Command::Stop(stop)).unwrap();
    for end in [stop(Stop::Updated), stop(Stop::Deleted), stop(Stop::Shutdown)] {
        let stage = Stage::new(OnDuplicate::Takeover);
        let (feed, _) = stage.push("k").await.accepted();
        end(&stage);
        assert!(feed.stopped.await.unwrap().is_some(), "the encoder is told why");
        stage.idle().await;
    }
    // The encoder vanishes, sends nothing, or its connection is dropped without a last event.
    for silent in [true, false] {
        let stage = Stage::new(OnDuplicate::Takeover);
        let (feed, _) = stage.push("k").await.accepted();
        let kept = silent.then_some(feed);
        stage.idle().await;
        assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().status, Status::Error);
        drop(kept);
    }
    // No worker can be started.
    let stage = Stage::new(OnDuplicate::Takeover);
    *stage.workers.failing.lock().unwrap() = true;
    let (_feed, _) = stage.push("k").await.accepted();
    stage.idle().await;
    assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().status, Status::Error);
}

#[tokio::test(start_paused = true)]
async fn capacity_returns_where_a_session_never_begins() {
    let stage = Stage::new(OnDuplicate::Takeover);
    let fault = Fault::new(Blame::Source, "no media to receive");
    stage.publish(Rtmp, &["k"], Some(fault.clone())).await.refused();
    assert_eq!(stage.control.embedded.newest(&id("k")).unwrap().error, fault.text, "the refusal is stored");
    assert_eq!(counted(&stage, "rtmp", "4xx"), 1);
    stage.idle().await;

    *stage.control.serve_fault.lock().unwrap() = Some(Fault::transient(Blame::Control, "Redis is not reachable"));
    assert_eq!(stage.push("k").await.refused().blame, Blame::Control);
    assert!(stage.sessions.registry().is_empty());
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_machine_admits_nobody() {
    let stage = Stage::new(OnDuplicate::Takeover);
    stage.sessions.drain();
    let fault = stage.push("k").await.refused();
    assert!(fault.text.starts_with("server shutting down") && fault.retry, "{fault}");
    assert_eq!((fault.blame, counted(&stage, "rtmp", "internal")), (Blame::Draining, 1));
    assert_eq!(stage.control.tried(), [], "nothing is stored");
}

#[tokio::test(start_paused = true)]
async fn many_publishers_with_one_key_make_one_session() {
    let stage = Arc::new(Stage::new(OnDuplicate::Takeover));
    let pushes: Vec<_> = (0..10)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move { stage.push("k").await })
        })
        .collect();
    let mut feeds = Vec::new();
    for push in pushes {
        match push.await.unwrap() {
            Answer::Accepted(feed, _) => feeds.push(feed),
            Answer::Refused(fault) => assert!(fault.retry, "{fault}"),
        }
    }
    stage.settle().await;
    assert_eq!(stage.carried(), 1);
    let alive = |feed: &mut session::SourceFeed| feed.stopped.try_recv() == Err(TryRecvError::Empty);
    let alive = feeds.iter_mut().filter_map(|feed| alive(feed).then_some(()));
    assert_eq!(alive.count(), 1, "all others were sent away");
}
