//! Servers under a real client, and under a client played by hand where a real one would not do such things.

use super::*;
use crate::memory::MemoryBus;
use crate::{Client, Error, Options};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{sleep, timeout};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(t: &str) -> Text {
    Text { text: t.to_owned() }
}

const ANY_ONE: Method = Method::any_one("Do");
const BEST: Method = Method::best("Do");

/// A server of `S.Do` that answers with its name and counts.
fn named(
    bus: &Arc<MemoryBus>,
    method: Method,
    name: &'static str,
    affinity: Option<f32>,
) -> (Registration, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let registration = Server::new(bus.clone(), "S").register(
        method,
        "t",
        move |_: &Text| affinity,
        move |_: Text| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok(text(name)) }
        },
    );
    (registration, calls)
}

async fn call(bus: &Arc<MemoryBus>, method: Method) -> Result<String, Error> {
    let client = Client::new(bus.clone(), "S");
    client.call::<_, Text>(&method, "t", &text("q"), &Options::default()).await.map(|t| t.text)
}

#[tokio::test(start_paused = true)]
async fn one_server_of_two_does_a_request() {
    let bus = MemoryBus::new();
    let (_a, a_calls) = named(&bus, ANY_ONE, "a", Some(1.0));
    let (_b, b_calls) = named(&bus, ANY_ONE, "b", Some(1.0));
    for n in 1..=10 {
        call(&bus, ANY_ONE).await.unwrap();
        assert_eq!(a_calls.load(Ordering::Relaxed) + b_calls.load(Ordering::Relaxed), n);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_the_loser_gives_up() {
    let bus = MemoryBus::new();
    let (_a, a_calls) = named(&bus, BEST, "a", Some(1.0));
    let (_b, b_calls) = named(&bus, BEST, "b", Some(2.0));
    assert_eq!(call(&bus, BEST).await.unwrap(), "b");
    sleep(Duration::from_secs(5)).await;
    assert_eq!((a_calls.load(Ordering::Relaxed), b_calls.load(Ordering::Relaxed)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn server_without_affinity_keeps_silent() {
    let bus = MemoryBus::new();
    let _silent = [None, Some(-1.0), Some(f32::NAN)].map(|affinity| named(&bus, BEST, "silent", affinity).0);
    let error = call(&bus, BEST).await.unwrap_err();
    assert!(matches!(error, Error::NoServers { .. }), "no bids at all: {error:?}");
    let (_a, _) = named(&bus, BEST, "a", Some(0.5));
    assert_eq!(call(&bus, BEST).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn every_server_answers_a_multi_request() {
    let bus = MemoryBus::new();
    let method = Method::every("Do");
    let _servers = ["a", "b", "c"].map(|name| named(&bus, method, name, None).0);
    let client = Client::new(bus.clone(), "S");
    let mut answers = client.call_every::<_, Text>(&method, "t", &text("q"), Duration::from_secs(1)).await.unwrap();
    let mut names = Vec::new();
    while let Some(answer) = answers.next().await {
        names.push(answer.unwrap().text);
    }
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn failures_carry_code_and_message() {
    let bus = MemoryBus::new();
    let _server = Server::new(bus.clone(), "S").register(ANY_ONE, "t", first_come, |q: Text| async move {
        let code = if q.text == "q" { Code::FailedPrecondition } else { Code::Internal };
        Err::<Text, _>(Failure::new(code, ""))
    });
    let error = call(&bus, ANY_ONE).await.unwrap_err();
    // A failure without text would read as success.
    assert_eq!((error.code(), error.to_string().as_str()), (Code::FailedPrecondition, "failed_precondition"));
}

#[tokio::test(start_paused = true)]
async fn slow_handler_is_dropped_at_the_deadline() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let bus = MemoryBus::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = dropped.clone();
    let _server = Server::new(bus.clone(), "S").register(ANY_ONE, "t", first_come, move |_: Text| {
        let gone = Gone(counter.clone());
        async move {
            sleep(Duration::from_secs(60)).await;
            drop(gone);
            Ok(text("late"))
        }
    });
    assert_eq!(call(&bus, ANY_ONE).await.unwrap_err().code(), Code::DeadlineExceeded);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn running_request_outlives_its_registration() {
    let bus = MemoryBus::new();
    let registration = Server::new(bus.clone(), "S").register(ANY_ONE, "t", first_come, |_: Text| async {
        sleep(Duration::from_secs(1)).await;
        Ok(text("done"))
    });
    let leave = async {
        sleep(Duration::from_millis(500)).await;
        drop(registration);
    };
    let (result, ()) = tokio::join!(call(&bus, ANY_ONE), leave);
    assert_eq!(result.unwrap(), "done");
    assert!(matches!(call(&bus, ANY_ONE).await, Err(Error::NoServers { nobody_listens: true })));
}

/// A client that writes its own requests.
struct ByHand {
    bus: Arc<MemoryBus>,
    claims: Subscription,
    answers: Subscription,
}

impl ByHand {
    fn new(bus: &Arc<MemoryBus>) -> Self {
        let (claims, answers) = (bus.subscribe("S|CLI_x|CLAIM"), bus.subscribe("S|CLI_x|RES"));
        Self { bus: bus.clone(), claims, answers }
    }

    async fn ask(&self, request: Request) {
        let request = Request { request_id: "REQ_x".into(), client_id: "CLI_x".into(), ..request };
        self.bus.publish("S|Do|t|REQ", Envelope::Request(request).encode()).await.unwrap();
    }

    async fn choose(&self, server_id: &str) {
        let choice = crate::envelope::ClaimResponse { request_id: "REQ_x".into(), server_id: server_id.to_owned() };
        self.bus.publish("S|Do|t|RCLAIM", Envelope::ClaimResponse(choice).encode()).await.unwrap();
    }

    async fn heard_nothing(&mut self) {
        let wait = Duration::from_secs(60);
        assert!(
            timeout(wait, async {
                tokio::select! { _ = self.claims.recv() => (), _ = self.answers.recv() => () }
            })
            .await
            .is_err()
        );
    }

    async fn answer(&mut self) -> Response {
        match timeout(Duration::from_secs(60), self.answers.recv()).await.unwrap().and_then(Envelope::decode) {
            Some(Envelope::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }
}

fn in_time(body: &'static [u8]) -> Request {
    sent(Duration::ZERO, body)
}

/// A request by a clock that is so much behind.
fn sent(behind: Duration, body: &'static [u8]) -> Request {
    let sent_at = unix_nanos() - i64::try_from(behind.as_nanos()).unwrap();
    Request { sent_at, expiry: sent_at + 3_000_000_000, raw_request: Bytes::from_static(body), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn expired_and_unreadable_are_ignored() {
    let bus = MemoryBus::new();
    let (_a, calls) = named(&bus, ANY_ONE, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    let sent_at = unix_nanos();
    for expiry in [sent_at, sent_at - 1, 0, i64::MIN] {
        client.ask(Request { sent_at, expiry, ..Default::default() }).await;
    }
    bus.publish("S|Do|t|REQ", Bytes::from_static(b"\xff\xff")).await.unwrap();
    bus.publish("S|Do|t|RCLAIM", Bytes::from_static(b"\xff\xff")).await.unwrap();
    client.heard_nothing().await;
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    // And it lives.
    call(&bus, ANY_ONE).await.unwrap();
}

/// Counts lines.
struct Lines(Arc<AtomicUsize>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        self.0.fetch_add(usize::from(*event.metadata().level() <= tracing::Level::INFO), Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn bad_requests_do_not_fill_the_log() {
    let lines = Arc::<AtomicUsize>::default();
    let _counting = tracing::subscriber::set_default(Lines(lines.clone()));
    let bus = MemoryBus::new();
    let (_a, _) = named(&bus, BEST, "a", Some(1.0));
    let client = ByHand::new(&bus);
    for n in 0..300 {
        // Expired, from another time, more than can be under way; and some before they can be taken.
        client.ask(Request { sent_at: 5, expiry: 5, ..Default::default() }).await;
        client.ask(sent(Duration::from_secs(600), b"")).await;
        if n % 50 > 0 {
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..400 {
        client.ask(in_time(b"")).await;
    }
    assert!((1..=60).contains(&lines.load(Ordering::Relaxed)), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_hinder_nobody() {
    let bus = MemoryBus::new();
    let (_a, calls) = named(&bus, ANY_ONE, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    client.ask(sent(Duration::from_secs(600), b"")).await;
    let claim = Envelope::decode(timeout(Duration::from_secs(1), client.claims.recv()).await.unwrap().unwrap());
    let Some(Envelope::ClaimRequest(claim)) = claim else { panic!("{claim:?}") };
    client.choose(&claim.server_id).await;
    assert_eq!(client.answer().await.error, "");
    // Who has given up does not choose, and so nothing is done.
    client.ask(sent(Duration::from_secs(600), b"\n\x01x")).await;
    client.claims.recv().await.unwrap();
    sleep(Duration::from_secs(4)).await;
    client.choose(&claim.server_id).await;
    client.heard_nothing().await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn undecodable_request_is_answered_at_once() {
    let bus = MemoryBus::new();
    let (_a, calls) = named(&bus, ANY_ONE, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    client.ask(in_time(&[0xff])).await;
    let answer = client.answer().await;
    assert_eq!(answer.code, "malformed_request");
    assert!(!answer.error.is_empty());
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_chosen_server_works() {
    let bus = MemoryBus::new();
    let (_a, calls) = named(&bus, BEST, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    client.ask(in_time(b"")).await;
    let claim = Envelope::decode(client.claims.recv().await.unwrap());
    let Some(Envelope::ClaimRequest(claim)) = claim else { panic!("{claim:?}") };
    assert_eq!((claim.request_id.as_str(), claim.affinity), ("REQ_x", 1.0));
    client.choose("SRV_other").await;
    client.choose(&claim.server_id).await;
    client.heard_nothing().await;
    assert_eq!(calls.load(Ordering::Relaxed), 0, "the first choice counts");
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_twice_are_one_request() {
    let bus = MemoryBus::new();
    let (_a, _) = named(&bus, ANY_ONE, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    let request = in_time(b"");
    client.ask(request.clone()).await;
    client.ask(request).await;
    assert!(client.claims.recv().await.is_some());
    client.heard_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_at_once_are_ignored() {
    let bus = MemoryBus::new();
    let (_a, _) = named(&bus, BEST, "a", Some(1.0));
    let mut client = ByHand::new(&bus);
    for _ in 0..MAX_CONCURRENT + 20 {
        client.ask(in_time(b"")).await;
    }
    for _ in 0..MAX_CONCURRENT {
        client.claims.recv().await.unwrap();
    }
    client.heard_nothing().await;
    // Nobody was chosen, so all have expired, and there is capacity again.
    client.ask(in_time(b"")).await;
    assert!(client.claims.recv().await.is_some());
}
