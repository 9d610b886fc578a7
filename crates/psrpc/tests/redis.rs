//! The bus against real redis-servers: one, one that dies or freezes, with passwords, with TLS, behind sentinels, in a cluster.

#[path = "redis/servers.rs"]
mod servers;

use psrpc::redis::{Address, Config, Password, RedisBus, Tls, Topology};
use psrpc::{Bus, BusState, Client, Code, Error, Failure, Method, Options, Registration, Server, first_come};
use servers::{Certificates, Redis};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

const ANY_ONE: Method = Method::any_one("Do");

/// Longer than any of these things takes on a machine with other work to do.
const LONG: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it did not happen within a minute")
}

fn bus(config: Config) -> Arc<RedisBus> {
    RedisBus::new(config).unwrap()
}

fn single(redis: &Redis) -> Config {
    Config::single(redis.address())
}

async fn up(bus: &Arc<RedisBus>) {
    soon(bus.state().wait_for(BusState::is_up)).await.unwrap();
}

async fn down(bus: &Arc<RedisBus>) -> String {
    match &*soon(bus.state().wait_for(|state| !state.is_up())).await.unwrap() {
        BusState::Down { reason, .. } => reason.to_string(),
        BusState::Up => unreachable!("waited for the opposite"),
    }
}

/// Waits for a reason to be down that holds `words`.
async fn down_with(bus: &Arc<RedisBus>, words: &str) {
    let known = |state: &BusState| matches!(state, BusState::Down { reason, .. } if reason.contains(words));
    let seen = timeout(LONG, bus.state().wait_for(known)).await.map(|r| r.map(|_| ()));
    assert!(seen.is_ok(), "expected {words:?}, got {:?}", bus.state().borrow());
}

/// A server of `S.Do` that echoes, on a bus of its own; it counts.
async fn echo(config: Config) -> (Arc<RedisBus>, Registration, Arc<AtomicUsize>) {
    let bus = bus(config);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let registration = Server::new(bus.clone(), "S").register(ANY_ONE, "t", first_come, move |q: Text| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { if q.text == "fail" { Err(Failure::new(Code::NotFound, "no such")) } else { Ok(q) } }
    });
    if timeout(LONG, registration.confirmed()).await.is_err() {
        panic!("not registered within a minute: {:?}", bus.state().borrow());
    }
    (bus, registration, calls)
}

async fn call(client: &Client, text: &str) -> Result<String, Error> {
    let q = Text { text: text.to_owned() };
    // A loaded machine may take its time; what is tested is not speed.
    let options =
        Options { timeout: Duration::from_secs(20), selection: Duration::from_secs(15), ..Options::default() };
    client.call::<_, Text>(&ANY_ONE, "t", &q, &options).await.map(|t| t.text)
}

#[tokio::test]
async fn one_server_of_two_does_each_call() {
    let redis = Redis::start(&[]);
    let (_bus_a, _a, a_calls) = echo(single(&redis)).await;
    let (_bus_b, _b, b_calls) = echo(single(&redis)).await;
    let client = Client::new(bus(single(&redis)), "S");
    for n in 1..=20 {
        assert_eq!(call(&client, "hello").await.unwrap(), "hello");
        assert_eq!(a_calls.load(Ordering::Relaxed) + b_calls.load(Ordering::Relaxed), n);
    }
    let error = call(&client, "fail").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "no such"));
}

#[tokio::test]
async fn dropped_registration_is_unsubscribed() {
    let redis = Redis::start(&[]);
    let (_bus, registration, _) = echo(single(&redis)).await;
    assert_eq!(redis.cli("PUBSUB NUMSUB S|Do|t|REQ"), "S|Do|t|REQ\n1");
    drop(registration);
    soon(async {
        while redis.cli("PUBSUB NUMSUB S|Do|t|REQ") != "S|Do|t|REQ\n0" {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Nobody listens: Redis says so, and the call ends when a server should have been chosen.
    let client = Client::new(bus(single(&redis)), "S");
    let options = Options { selection: Duration::from_millis(300), ..Options::default() };
    let error = client.call::<_, Text>(&ANY_ONE, "t", &Text::default(), &options).await.unwrap_err();
    assert!(matches!(error, Error::NoServers { nobody_listens: true }), "{error:?}");
}

#[tokio::test]
async fn many_subscriptions_come_and_go() {
    let redis = Redis::start(&[]);
    let bus = bus(single(&redis));
    let many: Vec<_> = (0..1000).map(|i| bus.subscribe(&format!("c{i}"))).collect();
    for subscription in &many {
        soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
    }
    assert_eq!(redis.cli("PUBSUB CHANNELS").lines().count(), 1000);
    drop(many);
    soon(async {
        while !redis.cli("PUBSUB CHANNELS").is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(bus.state().borrow().is_up());
}

#[tokio::test]
async fn redis_may_come_later_than_we_do() {
    let port = servers::free_port();
    let config = Config::single(Address { host: "localhost".into(), port });
    let serving = bus(config.clone());
    let registration = Server::new(serving.clone(), "S").register(ANY_ONE, "t", first_come, |q: Text| async { Ok(q) });
    let client = Client::new(bus(config), "S");
    let options = Options { selection: Duration::from_millis(200), ..Options::default() };
    let error = client.call::<_, Text>(&ANY_ONE, "t", &Text::default(), &options).await.unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with(&format!("Redis at localhost:{port} is not reachable (since 0 s): ")), "{words}");
    assert_eq!(error.code(), Code::Unavailable);

    let _redis = Redis::start_on(port, &[]);
    soon(registration.confirmed()).await;
    assert_eq!(call(&client, "late").await.unwrap(), "late");
}

#[tokio::test]
async fn restarted_redis_gets_all_subscriptions() {
    let mut redis = Redis::start(&[]);
    let (serving, _registration, _) = echo(single(&redis)).await;
    let client_bus = bus(single(&redis));
    let client = Client::new(client_bus.clone(), "S");
    call(&client, "before").await.unwrap();
    let subscription = serving.subscribe("c");
    soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
    for round in ["first", "second"] {
        redis.kill();
        down(&serving).await;
        down(&client_bus).await;
        assert!(!*subscription.confirmed().borrow(), "nothing is subscribed while Redis is away");
        redis.restart();
        soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
        assert_eq!(call(&client, round).await.unwrap(), round);
    }
}

#[tokio::test]
async fn cut_connections_are_replaced() {
    let redis = Redis::start(&[]);
    let bus = bus(single(&redis));
    let mut subscription = bus.subscribe("c");
    for kind in ["normal", "pubsub"] {
        soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
        up(&bus).await;
        let mut link = bus.state();
        link.mark_unchanged();
        assert_eq!(redis.cli(&format!("CLIENT KILL TYPE {kind}")), "1");
        soon(link.changed()).await.unwrap();
        up(&bus).await;
        soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
        assert_eq!(bus.publish("c", kind.into()).await.unwrap(), Some(1));
        assert_eq!(soon(subscription.recv()).await.unwrap(), kind);
    }
}

#[tokio::test]
async fn a_frozen_redis_is_noticed() {
    let redis = Redis::start(&[]);
    let (serving, _registration, _) = echo(single(&redis)).await;
    redis.signal("STOP");
    let reason = down(&serving).await;
    assert!(reason.contains("no answer within") || reason.contains("no reply within"), "{reason}");
    redis.signal("CONT");
    up(&serving).await;
    assert_eq!(call(&Client::new(bus(single(&redis)), "S"), "again").await.unwrap(), "again");
}

#[tokio::test]
async fn credentials_work_and_never_leak() {
    let redis = Redis::start(&["--requirepass", "sesame", "--user", "alice", "on", ">wonder", "~*", "&*", "+@all"]);
    let mut config = single(&redis);
    config.db = 3;
    let none = bus(config.clone());
    down_with(&none, "Authentication required").await;
    config.password = Password::new("simsim");
    let wrong = bus(config.clone());
    down_with(&wrong, "authentication").await;
    let BusState::Down { reason, .. } = wrong.state().borrow().clone() else { panic!("it is up") };
    assert!(!reason.contains("simsim"), "{reason}");
    config.password = Password::new("sesame");
    let (_bus, _registration, _) = echo(config.clone()).await;
    config.username = "alice".into();
    config.password = Password::new("wonder");
    assert_eq!(call(&Client::new(bus(config), "S"), "alice").await.unwrap(), "alice");
    assert_eq!(redis.cli("--user alice --pass wonder --no-auth-warning -n 3 DBSIZE"), "1", "the lock is in database 3");
}

#[tokio::test]
async fn tls_is_checked_as_configured() {
    let certificates = Certificates::new("redis.test");
    let redis = Redis::start_tls(&certificates);
    let mut config = single(&redis);

    let plain = bus(config.clone());
    down(&plain).await;

    let client_cert_file = Some(certificates.path("client.pem"));
    let client_key_file = Some(certificates.path("client.key"));
    let ca_cert_file = Some(certificates.path("ca.pem"));
    let tls =
        Tls { server_name: "redis.test".into(), ca_cert_file, client_cert_file, client_key_file, insecure: false };

    config.tls = Some(tls.clone());
    let (_bus, _registration, _) = echo(config.clone()).await;
    assert_eq!(call(&Client::new(bus(config.clone()), "S"), "secret").await.unwrap(), "secret");

    config.tls = Some(Tls { server_name: String::new(), ..tls.clone() });
    down_with(&bus(config.clone()), "not valid for name").await;

    config.tls = Some(Tls { server_name: String::new(), ca_cert_file: None, insecure: true, ..tls.clone() });
    up(&bus(config.clone())).await;

    let other = Certificates::new("redis.test");
    config.tls = Some(Tls { ca_cert_file: Some(other.path("ca.pem")), ..tls.clone() });
    down_with(&bus(config.clone()), "invalid peer certificate").await;

    config.tls = Some(Tls { client_cert_file: None, client_key_file: None, ..tls.clone() });
    down_with(&bus(config.clone()), "ertificate").await;

    config.tls = Some(Tls { client_key_file: None, ..tls.clone() });
    assert!(RedisBus::new(config.clone()).is_err());
    config.tls = Some(Tls { ca_cert_file: Some("nowhere.pem".into()), ..tls });
    let error = RedisBus::new(config).err().unwrap().to_string();
    assert!(error.starts_with("ca_cert_file (nowhere.pem): "), "{error}");
}

#[tokio::test]
async fn sentinels_name_the_master_and_successor() {
    let mut master = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let sentinel = Redis::start_sentinel(master.port);
    let nobody = Address { host: "127.0.0.1".into(), port: servers::free_port() };
    let config = Config::new(Topology::Sentinel {
        master_name: "main".into(),
        addresses: vec![nobody, sentinel.address()],
        username: String::new(),
        password: Password::default(),
    });
    let (serving, _registration, _) = echo(config.clone()).await;
    let client_bus = bus(config.clone());
    let client = Client::new(client_bus.clone(), "S");
    assert_eq!(call(&client, "old master").await.unwrap(), "old master");
    assert_ne!(master.cli("PUBSUB CHANNELS"), "");

    // The sentinel must know the replica before it can promote it.
    soon(sentinel.until("SENTINEL replicas main", |reply| reply.contains(&replica.port.to_string()))).await;
    soon(sentinel.until("INFO sentinel", |reply| reply.contains("slaves=1"))).await;
    master.kill();
    down(&serving).await;
    down(&client_bus).await;
    soon(replica.until("ROLE", |reply| reply.starts_with("master"))).await;
    up(&serving).await;
    up(&client_bus).await;
    assert_eq!(call(&client, "new master").await.unwrap(), "new master");
    assert_ne!(replica.cli("PUBSUB CHANNELS"), "");

    let Topology::Sentinel { addresses, .. } = config.topology else { unreachable!() };
    let unknown = Config::new(Topology::Sentinel {
        master_name: "other".into(),
        addresses,
        username: String::new(),
        password: Password::default(),
    });
    down_with(&bus(unknown), "no sentinel knows a master \"other\"").await;
}

#[tokio::test]
async fn cluster_carries_messages_and_locks() {
    let nodes = Redis::start_cluster(3).await;
    let config =
        |node: usize| Config::new(Topology::Cluster { addresses: vec![nodes[node].address()], max_redirects: 2 });
    let (bus_a, _a, a_calls) = echo(config(0)).await;
    let (_bus_b, _b, b_calls) = echo(config(1)).await;
    let client = Client::new(bus(config(2)), "S");
    for n in 1..=20 {
        let text = format!("message {n}");
        assert_eq!(call(&client, &text).await.unwrap(), text);
        assert_eq!(a_calls.load(Ordering::Relaxed) + b_calls.load(Ordering::Relaxed), n);
    }
    // Keys of all nodes, asked through one.
    let mut taken = HashMap::new();
    for i in 0..30 {
        let key = format!("key {i}");
        taken.insert(key.clone(), bus_a.lock(&key).await.unwrap());
        assert!(!bus_a.lock(&key).await.unwrap(), "{key} was taken twice");
    }
    assert!(taken.values().all(|first| *first));
    let counts: Vec<_> = nodes.iter().map(|node| node.cli("DBSIZE")).collect();
    assert!(counts.iter().all(|count| count != "0"), "{counts:?}");
    // A node counts only its own subscribers, so nothing is said.
    assert_eq!(bus_a.publish("nobody", "x".into()).await.unwrap(), None);
}

fn field(name: &str, value: &str) -> (String, bytes::Bytes) {
    (name.to_owned(), value.to_owned().into())
}

#[tokio::test]
async fn hashes_are_kept_for_a_while() {
    let redis = Redis::start(&[]);
    let (one, other) = (bus(single(&redis)), bus(single(&redis)));
    let keep = Duration::from_secs(100);
    assert!(one.hash_set("h", "a", "1".into(), keep).await.unwrap(), "it is new");
    assert!(!one.hash_set("h", "a", "2".into(), keep).await.unwrap());
    assert!(other.hash_set("h", "b", "\u{0}\u{1}".into(), keep).await.unwrap());
    let mut found = other.hash_read("h").await.unwrap();
    found.sort();
    assert_eq!(found, [field("a", "2"), field("b", "\u{0}\u{1}")]);
    let left: u64 = redis.cli("TTL h").parse().unwrap();
    assert!((90..=100).contains(&left), "{left}");
    for field in ["a", "a", "b"] {
        other.hash_remove("h", field).await.unwrap();
    }
    assert_eq!((one.hash_read("h").await.unwrap(), redis.cli("DBSIZE").as_str()), (Vec::new(), "0"));
    // What is no hash is an error, and no reason to connect again.
    redis.cli("SET h text");
    assert!(one.hash_read("h").await.unwrap_err().to_string().contains("WRONGTYPE"));
    assert!(one.state().borrow().is_up());
}

#[tokio::test]
async fn cluster_keeps_hashes_on_any_node() {
    let nodes = Redis::start_cluster(3).await;
    let bus = bus(Config::new(Topology::Cluster { addresses: vec![nodes[0].address()], max_redirects: 2 }));
    for i in 0..12 {
        let key = format!("hash {i}");
        assert!(bus.hash_set(&key, "f", "v".into(), LONG).await.unwrap());
        assert_eq!(bus.hash_read(&key).await.unwrap(), [field("f", "v")]);
        bus.hash_remove(&key, "f").await.unwrap();
        assert_eq!(bus.hash_read(&key).await.unwrap(), []);
    }
}

#[tokio::test]
async fn cluster_survives_a_lost_node() {
    let mut nodes = Redis::start_cluster(3).await;
    let config = Config::new(Topology::Cluster { addresses: vec![nodes[0].address()], max_redirects: 2 });
    let bus = bus(config);
    let mut subscription = bus.subscribe("c");
    soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
    nodes[0].kill();
    down(&bus).await;
    up(&bus).await;
    soon(subscription.confirmed().wait_for(|yes| *yes)).await.unwrap();
    // Publishing on the node that is not ours shows that the message crosses the cluster.
    soon(async {
        loop {
            nodes[1].cli("PUBLISH c one");
            nodes[2].cli("PUBLISH c two");
            if timeout(Duration::from_millis(200), subscription.recv()).await.is_ok() {
                break;
            }
        }
    })
    .await;
}
