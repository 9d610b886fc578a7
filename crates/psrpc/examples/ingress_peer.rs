//! Plays an ingress towards a real livekit-server, without media: for trying the RPC by hand.
//!
//! `ingress_peer HOST:PORT lookup KEY` looks a stream key up; `… report IN_x STATUS` stores a state; `… serve` takes every
//! request to pull a URL, reports PUBLISHING, and ends the session when the ingress is deleted or changed. Prints what it sees.

use livekit_protocol::{DeleteIngressRequest, IngressInfo, IngressState, UpdateIngressRequest};
use proto::{
    CreateIngressResponse, Empty, GetIngressInfoRequest, GetIngressInfoResponse, StartIngressRequest,
    UpdateIngressStateRequest,
};
use psrpc::redis::{Config, RedisBus};
use psrpc::{Bus, Client, Code, Error, Failure, Method, Options, Server, first_come};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

const GET_INGRESS_INFO: Method = Method::any_one("GetIngressInfo");
const UPDATE_INGRESS_STATE: Method = Method::any_one("UpdateIngressState");
const CREATE_INGRESS: Method = Method::any_one("CreateIngress");
const START_INGRESS: Method = Method::best("StartIngress");
const UPDATE_INGRESS: Method = Method::any_one("UpdateIngress");
const DELETE_INGRESS: Method = Method::any_one("DeleteIngress");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [redis, rest @ ..] = &words[..] else { return Err("usage: ingress_peer HOST:PORT COMMAND".into()) };
    let bus: Arc<dyn Bus> = RedisBus::new(Config::single(redis.parse()?))?;
    let io = Client::new(bus.clone(), "IOInfo");
    let start = Instant::now();
    match rest {
        ["lookup", key] => {
            let request = GetIngressInfoRequest { stream_key: (*key).to_owned(), ..Default::default() };
            let found: Result<GetIngressInfoResponse, Error> =
                io.call(&GET_INGRESS_INFO, "", &request, &Options::default()).await;
            match found {
                Ok(found) => println!("{found:#?}"),
                Err(error) => println!("{}: {error}", error.code()),
            }
        }
        ["report", ingress, status] => {
            let state = state(status.parse()?, "RT_byhand");
            match report(&io, ingress, state).await {
                Ok(()) => println!("stored"),
                Err(error) => println!("{}: {error}", error.code()),
            }
        }
        ["serve"] => serve(bus, Arc::new(io)).await,
        _ => return Err("commands: lookup KEY, report ID STATUS, serve".into()),
    }
    println!("after {:?}", start.elapsed());
    Ok(())
}

fn state(status: i32, resource: &str) -> IngressState {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
    IngressState { status, started_at: now, updated_at: now, resource_id: resource.to_owned(), ..Default::default() }
}

async fn report(io: &Client, ingress: &str, state: IngressState) -> Result<(), Error> {
    let request = UpdateIngressStateRequest { ingress_id: ingress.to_owned(), state: Some(state) };
    io.call::<_, Empty>(&UPDATE_INGRESS_STATE, "", &request, &Options::default()).await.map(|_| ())
}

async fn serve(bus: Arc<dyn Bus>, io: Arc<Client>) {
    let internal = Server::new(bus.clone(), "IngressInternal");
    let (sessions, mut started) = mpsc::channel::<IngressInfo>(8);
    let client = io.clone();
    let registration = internal.register(
        START_INGRESS,
        "",
        |_: &StartIngressRequest| Some(2.0),
        move |request: StartIngressRequest| start(request, client.clone(), sessions.clone()),
    );
    registration.confirmed().await;
    println!("serving");
    while let Some(info) = started.recv().await {
        tokio::spawn(session(bus.clone(), io.clone(), info));
    }
}

async fn start(
    request: StartIngressRequest,
    io: Arc<Client>,
    sessions: mpsc::Sender<IngressInfo>,
) -> Result<IngressInfo, Failure> {
    let mut info = request.info.ok_or_else(|| Failure::new(Code::InvalidArgument, "nothing to start"))?;
    println!("StartIngress {} {}", info.ingress_id, info.url);
    let created: Result<CreateIngressResponse, Error> = io.call(&CREATE_INGRESS, "", &info, &Options::default()).await;
    println!("CreateIngress: {created:?}");
    info.state = Some(state(1, "UR_byhand"));
    let _ = sessions.send(info.clone()).await;
    Ok(info)
}

/// Publishes nothing until it is told to stop.
async fn session(bus: Arc<dyn Bus>, io: Arc<Client>, info: IngressInfo) {
    let id = info.ingress_id;
    let state = IngressState { status: 2, ..info.state.unwrap_or_default() };
    let handler = Server::new(bus, "IngressHandler");
    let (stop, mut stopped) = mpsc::channel(1);
    let (by_update, by_delete, answer) = (stop.clone(), stop, state.clone());
    let update = handler.register(UPDATE_INGRESS, &id, first_come, {
        let answer = answer.clone();
        move |_: UpdateIngressRequest| end(by_update.clone(), "UpdateIngress", answer.clone())
    });
    let delete = handler.register(DELETE_INGRESS, &id, first_come, move |_: DeleteIngressRequest| {
        end(by_delete.clone(), "DeleteIngress", answer.clone())
    });
    update.confirmed().await;
    delete.confirmed().await;
    println!("PUBLISHING: {:?}", report(&io, &id, state.clone()).await);
    println!("{id} ended by {:?}", stopped.recv().await);
}

async fn end(stop: mpsc::Sender<&'static str>, by: &'static str, state: IngressState) -> Result<IngressState, Failure> {
    let _ = stop.try_send(by);
    Ok(state)
}
