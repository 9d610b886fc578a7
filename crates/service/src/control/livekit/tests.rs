//! The control plane against an `IOInfo` server and callers of our own, over the memory bus. Against the real
//! livekit-server it is tested end to end.

use super::*;
use psrpc::memory::MemoryBus;
use session::Status;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::UnboundedReceiver;

fn ingress() -> lk::IngressInfo {
    lk::IngressInfo {
        ingress_id: "IN_x".into(),
        stream_key: "sesame-open".into(),
        room_name: "room".into(),
        participant_identity: "publisher".into(),
        ..Default::default()
    }
}

fn pulled() -> lk::IngressInfo {
    lk::IngressInfo {
        input_type: lk::IngressInput::UrlInput.into(),
        url: "https://example.org/a.mp4".into(),
        stream_key: String::new(),
        state: Some(lk::IngressState::default()),
        enable_transcoding: Some(true),
        ..ingress()
    }
}

/// livekit-server's part: answers lookups with what it was given, and hands on the reports.
struct IoInfo {
    _registrations: [Registration; 3],
    reports: UnboundedReceiver<UpdateIngressStateRequest>,
}

fn io_info(bus: &Arc<MemoryBus>, answer: Result<GetIngressInfoResponse, Failure>) -> IoInfo {
    let server = Server::new(bus.clone(), "IOInfo");
    let (sender, reports) = mpsc::unbounded_channel();
    let lookup = server.register(GET_INGRESS_INFO, "", first_come, move |q: GetIngressInfoRequest| {
        let answer = if q.stream_key == "sesame-open" || q.ingress_id == "IN_x" {
            answer.clone()
        } else {
            Err(Failure::new(Code::NotFound, "ingress does not exist"))
        };
        async move { answer }
    });
    let report = server.register(UPDATE_INGRESS_STATE, "", first_come, move |q: UpdateIngressStateRequest| {
        let result = match q.state.as_ref().map(|s| s.started_at) {
            Some(1) => {
                Err(Failure::new(Code::FailedPrecondition, "trying to ovewrite an ingress with an older version"))
            }
            Some(2) => Err(Failure::new(Code::NotFound, "ingress does not exist")),
            _ => Ok(Empty {}),
        };
        let _ = sender.send(q);
        async move { result }
    });
    let create = server.register(CREATE_INGRESS, "", first_come, |info: lk::IngressInfo| async move {
        if info.ingress_id == "IN_x" { Ok(Empty {}) } else { Err(Failure::new(Code::Internal, "no")) }
    });
    IoInfo { _registrations: [lookup, report, create], reports }
}

fn found(info: lk::IngressInfo) -> Result<GetIngressInfoResponse, Failure> {
    Ok(GetIngressInfoResponse { info: Some(info), ..Default::default() })
}

fn livekit(bus: &Arc<MemoryBus>) -> LiveKit {
    let access =
        Access { api_key: "key".into(), api_secret: Secret::new("secret"), ws_url: "ws://sfu.example.org".into() };
    LiveKit::over(bus.clone(), access)
}

fn key() -> Secret {
    Secret::new("sesame-open")
}

fn report(started_at: i64) -> Report {
    Report {
        resource_id: ResourceId("RT_a".into()),
        status: Status::Publishing,
        error: String::new(),
        video: None,
        audio: None,
        room_id: String::new(),
        started_at,
        ended_at: 0,
        updated_at: started_at,
    }
}

#[tokio::test]
async fn a_key_is_looked_up_and_a_token_minted() {
    let bus = MemoryBus::new();
    let _io = io_info(&bus, found(lk::IngressInfo { state: Some(convert::state(&report(5))), ..ingress() }));
    let resolved = livekit(&bus).lookup(&key()).await.unwrap();
    assert_eq!(resolved.spec.ingress_id, IngressId("IN_x".into()));
    assert_eq!((resolved.ws_url.as_str(), resolved.stored.clone()), ("ws://sfu.example.org", Some(report(5))));
    let claims = livekit_token::TokenVerifier::with_api_key("key", "secret").verify(resolved.token.expose()).unwrap();
    assert_eq!(claims.sub, "publisher");
    assert!(!format!("{resolved:?}").contains("sesame-open"));
}

/// Who has a key waits for nobody's guesses, and a guess that is repeated asks nobody.
#[tokio::test(start_paused = true)]
async fn guesses_are_bounded_on_their_way_to_livekit_server() {
    let bus = MemoryBus::new();
    let (asked, seen) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let server = Server::new(bus.clone(), "IOInfo");
    let count = asked.clone();
    let _serving = server.register(GET_INGRESS_INFO, "", first_come, move |_: GetIngressInfoRequest| {
        *count.lock().unwrap() += 1;
        async { Err::<GetIngressInfoResponse, _>(Failure::new(Code::NotFound, "ingress does not exist")) }
    });
    let livekit = livekit(&bus);
    for _ in 0..50 {
        let fault = livekit.lookup(&Secret::new("nosuchkey")).await.unwrap_err();
        *seen.lock().unwrap() += usize::from(fault.blame == Blame::Unknown);
    }
    assert_eq!((*asked.lock().unwrap(), *seen.lock().unwrap()), (1, 50));
}

#[tokio::test]
async fn what_the_server_provides_is_preferred() {
    let bus = MemoryBus::new();
    let _io = io_info(
        &bus,
        Ok(GetIngressInfoResponse {
            info: Some(ingress()),
            token: "theirs".into(),
            ws_url: "wss://other.example.org".into(),
            project_id: "p_1".into(),
            logging_fields: HashMap::from([("a".into(), "b".into())]),
            feature_flags: HashMap::from([("c".into(), "d".into())]),
        }),
    );
    let resolved = livekit(&bus).lookup(&key()).await.unwrap();
    assert_eq!((resolved.token.expose(), resolved.ws_url.as_str()), ("theirs", "wss://other.example.org"));
    assert_eq!(resolved.logging_fields["a"], "b");
}

#[tokio::test]
async fn unknown_and_empty_keys_are_refused() {
    let bus = MemoryBus::new();
    let _io = io_info(&bus, found(ingress()));
    let livekit = livekit(&bus);
    let fault = livekit.lookup(&Secret::new("who-goes-there")).await.unwrap_err();
    assert!(fault.text.starts_with("no ingress has this stream key") && !fault.text.contains("who-goes"), "{fault}");
    assert_eq!(fault.blame, Blame::Unknown);
    let fault = livekit.lookup(&Secret::default()).await.unwrap_err();
    assert!(fault.text.starts_with("no stream key was given") && fault.blame == Blame::Access, "{fault}");
}

#[tokio::test]
async fn an_unusable_ingress_shows_why_unless_in_use() {
    let bus = MemoryBus::new();
    let disabled = lk::IngressInfo { enabled: Some(false), ..ingress() };
    let mut io = io_info(&bus, found(disabled.clone()));
    let fault = livekit(&bus).lookup(&key()).await.unwrap_err();
    let stored = io.reports.recv().await.unwrap();
    let state = stored.state.unwrap();
    assert_eq!((stored.ingress_id.as_str(), state.status, state.error), ("IN_x", 3, fault.text));
    assert!(state.started_at > 0 && state.updated_at == state.started_at && state.ended_at == 0);
    drop(io);

    let in_use = lk::IngressInfo { state: Some(convert::state(&report(5))), ..disabled };
    let mut io = io_info(&bus, found(in_use));
    livekit(&bus).lookup(&key()).await.unwrap_err();
    assert!(io.reports.try_recv().is_err());
}

#[tokio::test]
async fn an_unreachable_livekit_server_is_named() {
    let bus = MemoryBus::new();
    let livekit = livekit(&bus);
    let fault = livekit.lookup(&key()).await.unwrap_err();
    assert!(fault.text.starts_with("no livekit-server answered: is it running") && fault.retry, "{fault}");
    assert!(livekit.reachable().is_ok());
    bus.set_down(Some("Connection refused"));
    let words = "the bus is not reachable (since 0 s): Connection refused";
    assert_eq!(livekit.reachable().unwrap_err().text, words);
    let error = livekit.serve_session(&IngressId("IN_x".into()), &ResourceId("RT_a".into())).await;
    // The memory bus needs no confirming.
    assert!(error.is_ok());
}

#[tokio::test]
async fn reports_are_taken_or_refused_for_good() {
    let bus = MemoryBus::new();
    let mut io = io_info(&bus, found(ingress()));
    let livekit = livekit(&bus);
    let id = IngressId("IN_x".into());
    livekit.report(&id, &report(3)).await.unwrap();
    let request = io.reports.recv().await.unwrap();
    assert_eq!((request.ingress_id.as_str(), request.state), ("IN_x", Some(convert::state(&report(3)))));
    assert_eq!(livekit.report(&id, &report(1)).await, Err(ReportError::Older));
    assert_eq!(livekit.report(&id, &report(2)).await, Err(ReportError::Deleted));
    drop(io);
    assert!(matches!(livekit.report(&id, &report(3)).await, Err(ReportError::Unreachable(f)) if f.retry));
}

/// What livekit-server does when an ingress is changed or deleted.
async fn operate<Q: prost::Message>(
    bus: &Arc<MemoryBus>,
    method: Method,
    request: Q,
) -> Result<lk::IngressState, psrpc::Error> {
    let client = Client::new(bus.clone(), "IngressHandler");
    client.call(&method, "IN_x", &request, &Options::default()).await
}

#[tokio::test]
async fn what_is_stored_is_found_and_nothing_is_stored() {
    let bus = MemoryBus::new();
    let disabled = lk::IngressInfo { enabled: Some(false), state: Some(convert::state(&report(5))), ..ingress() };
    let mut io = io_info(&bus, found(disabled));
    let livekit = livekit(&bus);
    let stored = livekit.stored(&IngressId("IN_x".into())).await.unwrap().unwrap();
    assert_eq!((stored.spec.unwrap_err().blame, stored.state), (Blame::Access, Some(report(5))));
    assert_eq!(livekit.stored(&IngressId("IN_gone".into())).await, Ok(None));
    assert!(io.reports.try_recv().is_err(), "looking is no refusal");
    drop(io);
    assert!(livekit.stored(&IngressId("IN_x".into())).await.unwrap_err().retry);
}

#[tokio::test]
async fn a_command_is_passed_on_to_another_instance() {
    let bus = MemoryBus::new();
    let (one, other) = (livekit(&bus), livekit(&bus));
    let (id, resource) = (IngressId("IN_x".into()), ResourceId("RT_a".into()));
    let mut commands = other.serve_session(&id, &resource).await.unwrap();
    for stop in [Stop::Updated, Stop::Deleted] {
        let serve = async {
            match commands.recv().await {
                Some(SessionCommand::Update { reply }) if stop == Stop::Updated => reply.send(report(7)),
                Some(SessionCommand::Delete { reply }) if stop == Stop::Deleted => reply.send(report(7)),
                other => panic!("{other:?}"),
            }
        };
        let (answer, ()) = tokio::join!(one.pass_on(&id, stop), serve);
        assert_eq!(answer.unwrap(), report(7));
    }
    drop(commands);
    assert!(one.pass_on(&id, Stop::Updated).await.is_err(), "nobody is there");
}

#[tokio::test]
async fn a_session_is_commanded_until_it_leaves() {
    let bus = MemoryBus::new();
    let livekit = livekit(&bus);
    let (id, resource) = (IngressId("IN_x".into()), ResourceId("RT_a".into()));
    let mut commands = livekit.serve_session(&id, &resource).await.unwrap();
    let session = async {
        match commands.recv().await {
            Some(SessionCommand::Update { reply }) => reply.send(report(7)),
            other => panic!("{other:?}"),
        }
        match commands.recv().await {
            // Not answered: the session ends at that moment.
            Some(SessionCommand::Delete { reply }) => drop(reply),
            other => panic!("{other:?}"),
        }
    };
    let operator = async {
        let state = operate(&bus, UPDATE_INGRESS, lk::UpdateIngressRequest::default()).await.unwrap();
        assert_eq!(state, convert::state(&report(7)));
        let error = operate(&bus, DELETE_INGRESS, lk::DeleteIngressRequest::default()).await.unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "the session has ended"));
    };
    tokio::join!(session, operator);
    drop(commands);
    let error = operate(&bus, DELETE_INGRESS, lk::DeleteIngressRequest::default()).await.unwrap_err();
    assert!(matches!(error, psrpc::Error::NoServers { nobody_listens: true }), "{error:?}");
}

#[tokio::test]
async fn a_reply_goes_out_though_the_session_leaves() {
    let bus = MemoryBus::new();
    let livekit = livekit(&bus);
    let (id, resource) = (IngressId("IN_x".into()), ResourceId("RT_a".into()));
    let mut commands = livekit.serve_session(&id, &resource).await.unwrap();
    let session = async move {
        if let Some(SessionCommand::Delete { reply }) = commands.recv().await {
            reply.send(report(8));
        }
    };
    let (state, ()) = tokio::join!(operate(&bus, DELETE_INGRESS, lk::DeleteIngressRequest::default()), session);
    assert_eq!(state.unwrap().started_at, 8);
}

async fn start_at(bus: &Arc<MemoryBus>, info: Option<lk::IngressInfo>) -> Result<lk::IngressInfo, psrpc::Error> {
    let client = Client::new(bus.clone(), "IngressInternal");
    let request = StartIngressRequest { info, ..Default::default() };
    client.call(&START_INGRESS, "", &request, &Options::default()).await
}

#[tokio::test]
async fn a_url_is_pulled_where_it_is_wanted() {
    let bus = MemoryBus::new();
    let _io = io_info(&bus, found(ingress()));
    let livekit = livekit(&bus);
    let willing = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (bid, seen) = (willing.clone(), asked.clone());
    let mut requests = livekit.start_requests(Arc::new(move |wanted| {
        assert_eq!(wanted.ingress.0, ingress().ingress_id);
        assert!(wanted.spec.is_none_or(|spec| spec.input == wanted.input));
        seen.lock().unwrap().push(wanted.input);
        bid.load(Ordering::Relaxed).then_some(1.0)
    }));

    let service = async {
        let request = requests.recv().await.unwrap();
        assert_eq!(request.resolved.spec.url.expose(), "https://example.org/a.mp4");
        let mut request = request;
        request.create_ingress().await.unwrap();
        request.accept(Report { resource_id: ResourceId("UR_a".into()), ..report(9) });
        requests.recv().await.unwrap().reject(Fault::transient(Blame::Capacity, "server capacity exceeded"));
        drop(requests.recv().await.unwrap());
    };
    let operator = async {
        let info = start_at(&bus, Some(pulled())).await.unwrap();
        assert_eq!(info.state.unwrap().resource_id, "UR_a");
        for (code, text) in
            [(Code::ResourceExhausted, "server capacity exceeded"), (Code::Internal, "the request was lost")]
        {
            let error = start_at(&bus, Some(pulled())).await.unwrap_err();
            assert_eq!((error.code(), error.to_string().as_str()), (code, text));
        }
        for (bad, text) in [
            (lk::IngressInfo { room_name: String::new(), ..pulled() }, "invalid ingress: no room name"),
            (ingress(), "invalid ingress type: only a URL can be pulled"),
        ] {
            let error = start_at(&bus, Some(bad)).await.unwrap_err();
            assert_eq!((error.code(), error.to_string().as_str()), (Code::InvalidArgument, text));
        }
        willing.store(false, Ordering::Relaxed);
        assert!(matches!(start_at(&bus, Some(pulled())).await, Err(psrpc::Error::NoServers { .. })));
        assert!(matches!(start_at(&bus, None).await, Err(psrpc::Error::NoServers { .. })), "nothing to bid for");
    };
    tokio::join!(service, operator);
    assert_eq!(asked.lock().unwrap().first(), Some(&InputKind::Url));
}

#[tokio::test]
async fn a_pulled_ingress_may_go_unstored_not_refused() {
    let bus = MemoryBus::new();
    let livekit = livekit(&bus);
    let create = async |ingress_id: &str| {
        let info = lk::IngressInfo { ingress_id: ingress_id.into(), ..pulled() };
        create(livekit.io.clone(), info)().await
    };
    create("IN_x").await.expect("nobody serves it");
    let _io = io_info(&bus, found(ingress()));
    create("IN_x").await.unwrap();
    assert_eq!(create("IN_bad").await.unwrap_err().text, "livekit-server refused (internal): no");
}

#[tokio::test]
async fn the_sessions_of_this_machine_are_listed() {
    let bus = MemoryBus::new();
    let livekit = livekit(&bus);
    let serving = livekit.serve_list(Arc::new(|| vec![(IngressId("IN_x".into()), ResourceId("RT_a".into()))]));
    let client = Client::new(bus.clone(), "IngressInternal");
    let ask = async || {
        let wait = Duration::from_millis(200);
        let mut answers = client
            .call_every::<_, ListActiveIngressResponse>(&LIST_ACTIVE_INGRESS, "", &ListActiveIngressRequest {}, wait)
            .await
            .unwrap();
        answers.next().await.map(Result::unwrap)
    };
    let expected = ListActiveIngressResponse {
        ingress_ids: vec!["IN_x".into()],
        ingress_sessions: vec![IngressSession { ingress_id: "IN_x".into(), resource_id: "RT_a".into() }],
    };
    assert_eq!(ask().await, Some(expected));
    drop(serving);
    assert_eq!(ask().await, None);
}

// Hand-over ------------------------------------------------------------------------------------------------------------------

/// What runs on an instance that drains.
fn running() -> Report {
    Report { resource_id: ResourceId("UR_a".into()), ..report(50) }
}

fn stored_pull() -> lk::IngressInfo {
    lk::IngressInfo { state: Some(convert::state(&running())), ..pulled() }
}

async fn hand_over(livekit: &LiveKit) -> Result<Report, HandOverError> {
    livekit.hand_over(&IngressId("IN_x".into()), &running()).await
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_handed_over_as_livekit_server_would_start_it() {
    let bus = MemoryBus::new();
    let answer = GetIngressInfoResponse { token: "theirs".into(), ..found(stored_pull()).unwrap() };
    let _io = io_info(&bus, Ok(answer));
    // A Go ingress bids as well.
    let go = Server::new(bus.clone(), "IngressInternal");
    let _go = go.register(START_INGRESS, "", first_come, |_: StartIngressRequest| async {
        Err::<lk::IngressInfo, _>(Failure::new(Code::FailedPrecondition, "out of date"))
    });
    let (draining, other) = (livekit(&bus), livekit(&bus));
    let mut requests = other.start_requests(Arc::new(|_| Some(0.5)));
    let takes = async {
        let mut request = requests.recv().await.expect("a request");
        assert_eq!(request.resolved.stored, Some(running()), "its session has to begin after that");
        assert!(request.resolved.is_handed_over());
        assert_eq!(request.resolved.token.expose(), "theirs");
        // livekit-server knows it: it is not stored as new.
        request.create_ingress().await.unwrap();
        request.accept(Report { resource_id: ResourceId("UR_b".into()), status: Status::Buffering, ..report(60) });
    };
    let (theirs, ()) = tokio::join!(hand_over(&draining), takes);
    assert_eq!(theirs.unwrap().resource_id, ResourceId("UR_b".into()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_stays() {
    let bus = MemoryBus::new();
    let io = io_info(&bus, found(stored_pull()));
    let draining = livekit(&bus);
    let error = hand_over(&draining).await.unwrap_err();
    assert!(matches!(&error, HandOverError::NotTaken(fault) if fault.text.contains("no other instance")), "{error}");
    let other = livekit(&bus);
    let silent = other.start_requests(Arc::new(|_| None));
    assert!(matches!(hand_over(&draining).await, Err(HandOverError::NotTaken(_))), "it drains, too, or is full");
    drop(silent);
    // One that refuses, and one that does not answer.
    let mut requests = other.start_requests(Arc::new(|_| Some(0.5)));
    let refuses = async { requests.recv().await.unwrap().reject(Fault::transient(Blame::Capacity, "full")) };
    let (error, ()) = tokio::join!(hand_over(&draining), refuses);
    assert!(matches!(&error, Err(HandOverError::NotTaken(fault)) if fault.text.contains("full")), "{error:?}");
    assert!(matches!(hand_over(&draining).await, Err(HandOverError::Unclear(_))));
    drop(io);
    let _gone = io_info(&bus, Err(Failure::new(Code::NotFound, "ingress does not exist")));
    assert_eq!(hand_over(&draining).await, Err(HandOverError::Deleted));
}

#[tokio::test(start_paused = true)]
async fn another_sessions_state_is_not_handed_over() {
    let bus = MemoryBus::new();
    let _io = io_info(&bus, found(lk::IngressInfo { state: Some(convert::state(&report(70))), ..pulled() }));
    assert!(matches!(hand_over(&livekit(&bus)).await, Err(HandOverError::NotTaken(_))));
}
