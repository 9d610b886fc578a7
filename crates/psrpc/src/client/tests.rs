//! The client against servers played by hand, on tokio's paused clock.

use super::*;
use crate::memory::MemoryBus;
use tokio::time::{advance, sleep, timeout};

/// Any message with one text.
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
const EVERY: Method = Method::every("Do");

/// A server of `S.Do` whose every message a test writes.
struct Peer {
    bus: Arc<MemoryBus>,
    requests: Subscription,
    choices: Subscription,
}

impl Peer {
    fn new(bus: &Arc<MemoryBus>) -> Self {
        let requests = bus.subscribe("S|Do|REQ");
        Self { bus: bus.clone(), requests, choices: bus.subscribe("S|Do|RCLAIM") }
    }

    async fn request(&mut self) -> Request {
        match Envelope::decode(self.requests.recv().await.unwrap()) {
            Some(Envelope::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    async fn bid(&self, to: &Request, server_id: &str, affinity: f32) {
        let bid = ClaimRequest { request_id: to.request_id.clone(), server_id: server_id.into(), affinity };
        let channel = channel::claim_request("S", &to.client_id);
        self.bus.publish(&channel, Envelope::ClaimRequest(bid).encode()).await.unwrap();
    }

    async fn choice(&mut self) -> String {
        match Envelope::decode(self.choices.recv().await.unwrap()) {
            Some(Envelope::ClaimResponse(choice)) => choice.server_id,
            other => panic!("{other:?}"),
        }
    }

    async fn answer(&self, to: &Request, answer: Response) {
        let answer = Response { request_id: to.request_id.clone(), ..answer };
        let channel = channel::response("S", &to.client_id);
        self.bus.publish(&channel, Envelope::Response(answer).encode()).await.unwrap();
    }
}

fn ok(t: &str) -> Response {
    Response { raw_response: text(t).encode_to_vec().into(), ..Default::default() }
}

fn failed(error: &str, code: &str) -> Response {
    Response { error: error.into(), code: code.into(), ..Default::default() }
}

async fn call(bus: &Arc<MemoryBus>, method: Method) -> Result<Text, Error> {
    Client::new(bus.clone(), "S").call(&method, "", &text("q"), &Options::default()).await
}

/// Runs a call and a peer's part in it.
async fn against<F: Future<Output = ()>>(
    method: Method,
    part: impl FnOnce(Peer) -> F,
) -> (Result<Text, Error>, Duration) {
    let bus = MemoryBus::new();
    let peer = Peer::new(&bus);
    let start = Instant::now();
    let call = async {
        let result = call(&bus, method).await;
        (result, start.elapsed())
    };
    tokio::join!(call, part(peer)).0
}

#[tokio::test(start_paused = true)]
async fn the_first_bid_is_taken_at_once() {
    let (result, took) = against(ANY_ONE, |mut peer| async move {
        let request = peer.request().await;
        assert_eq!(Text::decode(request.body()).unwrap(), text("q"));
        assert_eq!(request.expiry - request.sent_at, 3_000_000_000);
        assert!(!request.multi);
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.bid(&request, "SRV_b", 9.0).await;
        assert_eq!(peer.choice().await, "SRV_a");
        peer.answer(&request, ok("a")).await;
    })
    .await;
    assert_eq!(result.unwrap(), text("a"));
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn best_bid_within_short_circuit_is_taken() {
    let (result, took) = against(BEST, |mut peer| async move {
        let request = peer.request().await;
        sleep(Duration::from_millis(100)).await;
        for (server, affinity) in
            [("SRV_0", 0.0), ("SRV_nan", f32::NAN), ("SRV_1", 1.0), ("SRV_2", 2.0), ("SRV_2b", 2.0)]
        {
            peer.bid(&request, server, affinity).await;
        }
        assert_eq!(peer.choice().await, "SRV_2");
        peer.answer(&request, ok("2")).await;
    })
    .await;
    assert_eq!(result.unwrap(), text("2"));
    assert_eq!(took, Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn late_first_bid_is_taken_at_selection_end() {
    let (result, took) = against(BEST, |mut peer| async move {
        let request = peer.request().await;
        sleep(Duration::from_millis(950)).await;
        peer.bid(&request, "SRV_1", 1.0).await;
        assert_eq!(peer.choice().await, "SRV_1");
        peer.answer(&request, ok("1")).await;
    })
    .await;
    assert_eq!(result.unwrap(), text("1"));
    assert_eq!(took, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn bids_of_nothing_are_not_taken() {
    let (result, took) = against(BEST, |mut peer| async move {
        let request = peer.request().await;
        peer.bid(&request, "SRV_0", 0.0).await;
        peer.bid(&request, "SRV_-", -1.0).await;
        sleep(Duration::from_secs(2)).await;
    })
    .await;
    let error = result.unwrap_err();
    assert!(matches!(error, Error::NoneWilling { received: 2 }), "{error:?}");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(took, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_selection() {
    let (result, took) = against(ANY_ONE, |mut peer| async move {
        peer.request().await;
        let again = timeout(Duration::from_secs(5), peer.requests.recv()).await;
        assert!(again.is_err(), "a request that reached somebody is not published again");
    })
    .await;
    let error = result.unwrap_err();
    assert!(matches!(error, Error::NoServers { nobody_listens: false }), "{error:?}");
    assert!(error.retryable());
    assert_eq!((error.to_string().as_str(), took), ("no response from servers", Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn returning_server_is_found_within_selection() {
    let bus = MemoryBus::new();
    let error = call(&bus, ANY_ONE).await.unwrap_err();
    assert!(matches!(error, Error::NoServers { nobody_listens: true }), "{error:?}");

    let late = async {
        sleep(Duration::from_millis(450)).await;
        let mut peer = Peer::new(&bus);
        let request = peer.request().await;
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
        peer.answer(&request, ok("late")).await;
    };
    let (result, ()) = tokio::join!(call(&bus, ANY_ONE), late);
    assert_eq!(result.unwrap(), text("late"));
}

#[tokio::test(start_paused = true)]
async fn a_request_not_to_be_repeated_reaches_nobody_once() {
    let bus = MemoryBus::new();
    let client = Client::new(bus.clone(), "S");
    let start = Instant::now();
    let options = Options { repeat: false, ..Options::default() };
    let result = client.call::<_, Text>(&ANY_ONE, "nowhere", &text("q"), &options).await;
    assert!(matches!(result, Err(Error::NoServers { nobody_listens: true })), "{result:?}");
    assert_eq!(start.elapsed(), Duration::ZERO, "and is not waited for");
}

#[tokio::test(start_paused = true)]
async fn request_without_lock_is_published_once() {
    let bus = MemoryBus::new();
    let late = async {
        sleep(Duration::from_millis(450)).await;
        assert!(timeout(Duration::from_secs(2), Peer::new(&bus).requests.recv()).await.is_err());
    };
    let (result, ()) = tokio::join!(call(&bus, BEST), late);
    assert!(matches!(result, Err(Error::NoServers { .. })));
}

/// A bus whose first publish is lost with the connection.
struct Breaking {
    bus: Arc<MemoryBus>,
    broken: std::sync::atomic::AtomicBool,
}

impl Bus for Breaking {
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> crate::BusFuture<'a, Option<u64>> {
        if self.broken.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return self.bus.publish(channel, payload);
        }
        let error = crate::BusError::Silent { name: "it".into(), within: Duration::from_secs(2) };
        Box::pin(async { Err(error) })
    }
    fn subscribe(&self, channel: &str) -> Subscription {
        self.bus.subscribe(channel)
    }
    fn lock<'a>(&'a self, key: &'a str) -> crate::BusFuture<'a, bool> {
        self.bus.lock(key)
    }
    fn hash_set<'a>(
        &'a self,
        key: &'a str,
        field: &'a str,
        value: Bytes,
        keep: Duration,
    ) -> crate::BusFuture<'a, bool> {
        self.bus.hash_set(key, field, value, keep)
    }
    fn hash_read<'a>(&'a self, key: &'a str) -> crate::BusFuture<'a, Vec<(String, Bytes)>> {
        self.bus.hash_read(key)
    }
    fn hash_remove<'a>(&'a self, key: &'a str, field: &'a str) -> crate::BusFuture<'a, ()> {
        self.bus.hash_remove(key, field)
    }
    fn state(&self) -> tokio::sync::watch::Receiver<BusState> {
        self.bus.state()
    }
    fn name(&self) -> &str {
        "it"
    }
}

#[tokio::test(start_paused = true)]
async fn lost_request_is_republished_where_safe() {
    let call = async |method, bus: &Arc<MemoryBus>| {
        let breaking = Arc::new(Breaking { bus: bus.clone(), broken: Default::default() });
        Client::new(breaking, "S").call::<_, Text>(&method, "", &text("q"), &Options::default()).await
    };
    let bus = MemoryBus::new();
    let mut peer = Peer::new(&bus);
    let serve = async {
        let request = peer.request().await;
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
        peer.answer(&request, ok("a")).await;
    };
    let (result, ()) = tokio::join!(call(ANY_ONE, &bus), serve);
    assert_eq!(result.unwrap(), text("a"));
    let error = call(BEST, &bus).await.unwrap_err();
    assert_eq!(error.to_string(), "it did not answer within 2000 ms");
}

#[tokio::test(start_paused = true)]
async fn silent_chosen_server_times_the_call_out() {
    let (result, took) = against(ANY_ONE, |mut peer| async move {
        let request = peer.request().await;
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
    })
    .await;
    let error = result.unwrap_err();
    assert_eq!((error.code(), took), (Code::DeadlineExceeded, Duration::from_secs(3)));
    assert_eq!(error.to_string(), "request timed out");
}

#[tokio::test(start_paused = true)]
async fn failures_keep_code_and_message() {
    let (result, _) = against(ANY_ONE, |mut peer| async move {
        let request = peer.request().await;
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
        peer.answer(&request, failed("ingress does not exist", "not_found")).await;
    })
    .await;
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "ingress does not exist"));
    assert!(!error.retryable());
}

#[tokio::test(start_paused = true)]
async fn answer_instead_of_bid_is_a_refusal() {
    let refuse = |mut peer: Peer| async move {
        let request = peer.request().await;
        peer.answer(&request, failed("what?", "malformed_request")).await;
        sleep(Duration::from_secs(3)).await;
    };
    // One server looks at it: nobody else will bid.
    let (result, took) = against(ANY_ONE, refuse).await;
    assert_eq!((result.unwrap_err().code(), took), (Code::MalformedRequest, Duration::ZERO));
    // All look at it: another may yet bid.
    let (result, took) = against(BEST, refuse).await;
    assert_eq!((result.unwrap_err().code(), took), (Code::MalformedRequest, Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn undecodable_answer_is_malformed() {
    let (result, _) = against(ANY_ONE, |mut peer| async move {
        let request = peer.request().await;
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
        peer.answer(&request, Response { raw_response: Bytes::from_static(&[0xff]), ..Default::default() }).await;
    })
    .await;
    assert_eq!(result.unwrap_err().code(), Code::MalformedResult);
}

#[tokio::test(start_paused = true)]
async fn all_answers_come_until_the_timeout() {
    let bus = MemoryBus::new();
    let mut peer = Peer::new(&bus);
    let client = Client::new(bus.clone(), "S");
    let start = Instant::now();
    let calling = async {
        let mut answers = client.call_every::<_, Text>(&EVERY, "", &text("q"), Duration::from_secs(2)).await.unwrap();
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            all.push(answer.map_err(|e| e.code()));
        }
        all
    };
    let serving = async {
        let request = peer.request().await;
        assert!(request.multi);
        peer.answer(&request, ok("a")).await;
        sleep(Duration::from_millis(1900)).await;
        peer.answer(&request, failed("no", "internal")).await;
    };
    let (all, ()) = tokio::join!(calling, serving);
    assert_eq!(all, [Ok(text("a")), Err(Code::Internal)]);
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert!(client.shared.calls.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_forgotten() {
    let bus = MemoryBus::new();
    let _peer = Peer::new(&bus);
    let client = Client::new(bus.clone(), "S");
    let options = Options::default();
    let q = text("q");
    let dropped = timeout(Duration::from_millis(10), client.call::<_, Text>(&ANY_ONE, "", &q, &options)).await;
    assert!(dropped.is_err());
    assert!(client.shared.calls.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_client_leaves_its_channels() {
    let bus = MemoryBus::new();
    let client = Client::new(bus.clone(), "S");
    let to = channel::response("S", &client.shared.id);
    assert_eq!(bus.publish(&to, Bytes::new()).await.unwrap(), Some(1));
    drop(client);
    tokio::task::yield_now().await;
    assert_eq!(bus.publish(&to, Bytes::new()).await.unwrap(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn bus_that_is_down_is_awaited_then_named() {
    let bus = MemoryBus::new();
    bus.set_down(Some("Connection refused"));
    advance(Duration::from_secs(11)).await;
    let start = Instant::now();
    let error = call(&bus, ANY_ONE).await.unwrap_err();
    assert_eq!(error.to_string(), "the bus is not reachable (since 12 s): Connection refused");
    assert_eq!((error.code(), start.elapsed()), (Code::Unavailable, Duration::from_secs(1)));

    let mend = async {
        sleep(Duration::from_millis(300)).await;
        bus.set_down(None);
    };
    let mut peer = Peer::new(&bus);
    let serve = async {
        let request = peer.request().await;
        // What was spent waiting is not promised to the server.
        assert_eq!(request.expiry - request.sent_at, 3_000_000_000);
        peer.bid(&request, "SRV_a", 1.0).await;
        peer.choice().await;
        peer.answer(&request, ok("back")).await;
    };
    let (result, (), ()) = tokio::join!(call(&bus, ANY_ONE), mend, serve);
    assert_eq!(result.unwrap(), text("back"));
}
