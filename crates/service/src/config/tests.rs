//! Configurations as people write them, valid and not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::Secret;
use proptest::prelude::*;
use session::Passthrough;
use url::Url;

use super::*;
use psrpc::redis::Address;

/// The smallest valid configuration.
const MINIMAL: &str =
    "redis: {address: 'localhost:6379'}\napi_key: devkey\napi_secret: secret\nws_url: ws://localhost:7880\n";
const SAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config-sample.yaml"));

fn no_env(_: &str) -> Option<String> {
    None
}

fn load_body(body: &str, strict: bool) -> Result<(Config, Vec<Warning>), Faults> {
    let (config, mut warnings) = load(&Sources { file: None, body: Some(body.to_owned()), strict, env: &no_env })?;
    // What it always warns of; see `secrets_on_the_command_line_are_warned_of`.
    warnings.retain(|w| w.key != "--config-body");
    Ok((config, warnings))
}

/// The smallest valid configuration with these lines.
fn with(lines: &str) -> Result<(Config, Vec<Warning>), Faults> {
    load_body(&format!("{MINIMAL}{lines}\n"), false)
}

/// As [`with`], expected to be valid and without a warning.
fn good(lines: &str) -> Config {
    let (config, warnings) = with(lines).unwrap_or_else(|faults| panic!("{lines}: {faults}"));
    assert_eq!(warnings, [], "{lines}");
    config
}

fn defaults() -> Config {
    let redis = RedisConfig::single(Address { host: "localhost".to_owned(), port: 6379 });
    Config::new(redis, "devkey".to_owned(), Secret::new("secret"), Url::parse("ws://localhost:7880").unwrap())
}

/// `key: text` of each remark.
fn words(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|r| if r.key.is_empty() { r.text.clone() } else { format!("{}: {}", r.key, r.text) }).collect()
}

#[test]
fn minimal_means_the_defaults() {
    assert_eq!(good(""), defaults());
}

#[test]
fn the_sample_has_every_key_and_the_defaults() {
    let (config, warnings) = load_body(SAMPLE, true).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(warnings, []);
    assert_eq!(config, defaults());
    for key in read::every_key() {
        let name = key.rsplit('.').next().unwrap();
        let there = SAMPLE.lines().any(|line| line.trim_start_matches([' ', '#']).starts_with(&format!("{name}:")));
        assert!(there, "config-sample.yaml lacks {key}");
    }
}

#[test]
fn ports_zero_and_negative() {
    let config = good("rtmp_port: 0\nwhip_port: -1\nhealth_port: 7888\nprometheus_port: -1");
    assert_eq!(config.rtmp.port, Some(1935));
    assert_eq!((config.whip.port, config.health.port, config.prometheus.port), (None, Some(7888), None));
    assert_eq!(good("rtmp_port: -1").rtmp.port, None);
    assert_eq!(good("rtmp_port: \"2935\"").rtmp.port, Some(2935));
}

#[test]
fn the_environment_fills_in_missing_keys() {
    let env = |name: &str| match name {
        "LIVEKIT_API_KEY" => Some("envkey".to_owned()),
        "LIVEKIT_API_SECRET" => Some("envsecret".to_owned()),
        "LIVEKIT_WS_URL" => Some("https://livekit.example.com".to_owned()),
        _ => None,
    };
    let load = |body: &str| load(&Sources { file: None, body: Some(body.to_owned()), strict: false, env: &env });
    let (config, _) = load("redis: {address: h}\napi_key: ''\nlog_level: debug\n").unwrap();
    assert_eq!(config.api_key, "envkey");
    assert_eq!(config.api_secret.expose(), "envsecret");
    assert_eq!(config.ws_url.as_str(), "wss://livekit.example.com/");
    assert_eq!(config.logging.level, LogLevel::Debug);
    let (config, _) = load(MINIMAL).unwrap();
    assert_eq!((config.api_key.as_str(), config.api_secret.expose()), ("devkey", "secret"));
    assert_eq!(config.ws_url.as_str(), "ws://localhost:7880/");

    let bad = |name: &str| (name == "LIVEKIT_WS_URL").then(|| "localhost:7880".to_owned());
    let faults =
        super::load(&Sources { file: None, body: Some("a: b".to_owned()), strict: false, env: &bad }).unwrap_err();
    assert!(words(&faults.faults).iter().any(|w| w.starts_with("ws_url: ") && w.ends_with("(from LIVEKIT_WS_URL)")));
}

#[test]
fn line_ends_and_byte_order_marks_are_ignored() {
    let body =
        format!("\u{feff}{}", MINIMAL.replace("api_secret: secret", "api_secret: |\n  secret").replace('\n', "\r\n"));
    assert_eq!(load_body(&body, true).unwrap().0, defaults());
    let env = |name: &str| name.starts_with("LIVEKIT_API").then(|| "text\n".to_owned());
    let body = "redis: {address: h}\nws_url: ws://h\n".to_owned();
    let (config, _) = load(&Sources { file: None, body: Some(body), strict: true, env: &env }).unwrap();
    assert_eq!((config.api_key.as_str(), config.api_secret.expose()), ("text", "text"));
    assert!(
        load_body(&MINIMAL.replace("devkey", "\"\\n\""), true).unwrap_err().to_string().contains("api_key: is missing")
    );
}

#[test]
fn remarks_are_one_line_or_three() {
    let fault = with("rtmp_port: x").unwrap_err().faults.remove(0);
    assert_eq!(fault.to_string().lines().count(), 1);
    assert_eq!(format!("{fault:#}").lines().count(), 3);
}

#[test]
fn precedence_of_sources() {
    let folder = std::env::temp_dir().join(format!("ingress-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("{MINIMAL}service_name: {name}\n")).unwrap();
        path
    };
    let (flag, variable) = (write("flag"), write("variable"));
    let body = |name: &str| Some(format!("{MINIMAL}service_name: {name}\n"));
    let env_file = |name: &str| (name == "INGRESS_CONFIG_FILE").then(|| variable.display().to_string());
    let env_both = |name: &str| if name == "INGRESS_CONFIG_BODY" { body("env-body") } else { env_file(name) };
    let chosen = |file: Option<&std::path::PathBuf>, body: Option<String>, env: &dyn Fn(&str) -> Option<String>| {
        load(&Sources { file: file.cloned(), body, strict: true, env }).unwrap().0.service_name
    };
    assert_eq!(chosen(Some(&flag), body("body"), &env_both), "body");
    assert_eq!(chosen(Some(&flag), None, &env_both), "env-body");
    assert_eq!(chosen(Some(&flag), None, &env_file), "flag");
    assert_eq!(chosen(None, None, &env_file), "variable");
    let file_faults = |path: &std::path::Path| {
        load(&Sources { file: Some(path.to_owned()), body: None, strict: false, env: &no_env }).unwrap_err().to_string()
    };
    assert!(file_faults(&folder.join("nowhere")).contains("nowhere: 1 fault\ncannot be read: No such file"));
    assert!(file_faults(&folder).contains("cannot be read: Is a directory"));
    fs::write(folder.join("latin1"), b"api_key: caf\xe9\n").unwrap();
    assert!(file_faults(&folder.join("latin1")).contains("not UTF-8"));
    fs::write(folder.join("long"), vec![b'#'; 300_000]).unwrap();
    assert!(file_faults(&folder.join("long")).contains("longer than"));
    fs::remove_dir_all(&folder).unwrap();

    let none = load(&Sources { file: None, body: Some(String::new()), strict: false, env: &no_env }).unwrap_err();
    assert!(none.to_string().contains("--config"), "{none}");
}

#[test]
fn secrets_on_the_command_line_are_warned_of() {
    let warnings = |body: Option<String>, env: &dyn Fn(&str) -> Option<String>| {
        words(&load(&Sources { file: None, body, strict: true, env }).unwrap().1)
    };
    let env = |name: &str| (name == "INGRESS_CONFIG_BODY").then(|| MINIMAL.to_owned());
    assert!(warnings(Some(MINIMAL.to_owned()), &env)[0].starts_with("--config-body: every user of this machine"));
    assert_eq!(warnings(None, &env), [""; 0]);
}

#[test]
fn every_kind_of_redis() {
    let redis = |yaml: &str| {
        let body = MINIMAL.replace("redis: {address: 'localhost:6379'}", &format!("redis: {{{yaml}}}"));
        load_body(&body, true).unwrap_or_else(|faults| panic!("{yaml}: {faults}")).0.redis
    };
    let at = |host: &str, port| Address { host: host.to_owned(), port };
    assert_eq!(redis("address: 'r:1', use_tls: true").tls, Some(RedisTls::default()));
    let sentinel = redis(
        "sentinel_master_name: mymaster, sentinel_addresses: [a, 'b:1'], sentinel_username: u, sentinel_password: p, \
         username: x, password: 12345, db: 3, dial_timeout: 2000, pool_timeout: 1s, pool_size: 7",
    );
    assert_eq!(
        sentinel.topology,
        RedisTopology::Sentinel {
            master_name: "mymaster".to_owned(),
            addresses: vec![at("a", 26379), at("b", 1)],
            username: "u".to_owned(),
            password: Secret::new("p"),
        }
    );
    assert_eq!((sentinel.username.as_str(), sentinel.password.expose(), sentinel.db), ("x", "12345", 3));
    assert_eq!((sentinel.dial_timeout, sentinel.read_timeout), (Some(Duration::from_secs(2)), None));
    let cluster = redis("cluster_addresses: ['[::1]:7000', n2], max_redirects: 5");
    let addresses = vec![at("::1", 7000), at("n2", 6379)];
    assert_eq!(cluster.topology, RedisTopology::Cluster { addresses, max_redirects: 5 });
    let tls = redis("address: r, tls: {enabled: true, insecure: true, server_name: s}").tls.unwrap();
    assert_eq!((tls.insecure, tls.server_name.as_deref(), tls.client), (true, Some("s"), None));
}

#[test]
fn every_key_is_read() {
    let config = good(
        "rtmp_max_connections: 5\nrtmp_max_connections_per_address: 2\non_duplicate: refuse\ndrain_timeout: 90s\nstall_timeout: 7s\n\
         passthrough: never\npassthrough_max_bitrate: 6_000_000\npassthrough_max_keyframe_interval: 10s\n\
         confinement: require\n\
         bind_address: 127.0.0.1\nwhip_max_connections: 7\nwhip_max_connections_per_address: 3\n\
         service_name: edge\n\
         cpu_cost: {rtmp_cpu_cost: 0.5, whip_cpu_cost: 1, whip_bypass_transcoding_cpu_cost: .05, url_cpu_cost: auto, min_idle_ratio: 0.1}\n\
         logging: {json: true, level: WARN, component_levels: {rtmp: debug, service.control: trace}}",
    );
    assert_eq!((config.rtmp.max_connections, config.rtmp.max_connections_per_address), (5, 2));
    assert_eq!((config.on_duplicate, config.drain_timeout), (OnDuplicate::Refuse, Duration::from_secs(90)));
    assert_eq!(config.confinement, confine::Mode::Require);
    assert_eq!(config.stall_timeout, Duration::from_secs(7));
    let interval = Duration::from_secs(10);
    let passthrough = Passthrough { enabled: false, max_bitrate: Some(6_000_000), max_keyframe_interval: interval };
    assert_eq!(config.passthrough, passthrough);
    assert_eq!(config.bind_address, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!((config.whip.max_connections, config.whip.max_connections_per_address), (7, 3));
    assert_eq!(config.service_name, "edge");
    let costs = CpuCost {
        rtmp: Some(0.5),
        whip: Some(1.0),
        whip_bypass_transcoding: Some(0.05),
        url: None,
        min_idle_ratio: 0.1,
    };
    assert_eq!(config.cpu_cost, costs);
    assert_eq!((config.logging.json, config.logging.level), (true, LogLevel::Warn));
    let levels: Vec<_> = config.logging.component_levels.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(levels, [("rtmp", LogLevel::Debug), ("service.control", LogLevel::Trace)]);
}

#[test]
fn balancers_and_pages_are_read() {
    let config = good(
        "rtmp_proxy_protocol_from: [10.0.0.0/8, 192.0.2.1]\nwhip_forwarded_from: ['fd00::/8']\nwhip_forwarded_header: Forwarded\n\
         health_bind_address: '::1'\nprometheus_bind_address: 127.0.0.1\nrtc_config: {check_private_candidates: true}\n\
         url: {max_temporary_files: 3}",
    );
    let contains = |nets: &[IpNet], ip: &str| nets.iter().any(|net| net.contains(ip.parse().unwrap()));
    assert!(
        contains(&config.rtmp.proxy_protocol_from, "10.9.9.9")
            && contains(&config.rtmp.proxy_protocol_from, "192.0.2.1")
    );
    assert!(!contains(&config.rtmp.proxy_protocol_from, "192.0.2.2"));
    assert!(contains(&config.whip.forwarded_from, "fd12::1"));
    assert_eq!(config.whip.forwarded_header, ForwardedHeader::Forwarded);
    assert_eq!(config.health.bind_address, Some("::1".parse().unwrap()));
    assert_eq!(config.prometheus.bind_address, Some(Ipv4Addr::LOCALHOST.into()));
    assert!(config.rtc.check_private_candidates);
    assert_eq!(config.url.temporary_files, 3);
}

#[test]
fn keys_without_effect_warn() {
    let lines = "enable_stream_latency_reduction: true\ndevelopment: on\ndebug_handler_port: 6060";
    let (config, warnings) = with(lines).unwrap();
    assert!(config.without_effect.enable_stream_latency_reduction && config.without_effect.development);
    assert_eq!(config.without_effect.debug_handler_port, Some(6060));
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.iter().all(|w| w.to_string().contains("has no effect")), "{warnings:?}");
    good("enable_stream_latency_reduction: false\ndevelopment: false\ndebug_handler_port: 0");
}

#[test]
fn rtc_config_is_read() {
    let rtc = good(
        "rtc_config: {udp_port: 7000-7003, tcp_port: 7881, node_ip: '1.2.3.4,::1', stun_servers: ['s.example:3478'], \
         interfaces: {includes: [eth0]}, ips: {excludes: [10.0.0.0/8]}, turn_servers: [{host: t.example, port: 443, protocol: tls, secret: s, ttl: 60}, {host: '[::1]', port: 3478, protocol: udp, username: u, credential: c}], \
         use_ice_lite: true}",
    )
    .rtc;
    assert_eq!(rtc.udp, UdpPorts::Shared(PortRange { start: 7000, end: 7003 }));
    assert_eq!((rtc.tcp_port, rtc.use_ice_lite), (Some(7881), true));
    assert_eq!(rtc.node_ip.v4, Some(Ipv4Addr::new(1, 2, 3, 4)));
    assert_eq!((rtc.interfaces.includes, rtc.ips.excludes.len()), (vec!["eth0".to_owned()], 1));
    let [first, second] = &rtc.turn_servers[..] else { panic!("{:?}", rtc.turn_servers) };
    let shared = TurnAccess::Shared { secret: Secret::new("s"), ttl: Duration::from_secs(60) };
    assert_eq!((first.port, first.protocol, &first.access), (443, TurnTransport::Tls, &shared));
    let fixed = TurnAccess::Fixed { username: "u".into(), credential: Secret::new("c") };
    assert_eq!((second.host.as_str(), second.protocol, &second.access), ("::1", TurnTransport::Udp, &fixed));
    let ranged = good("rtc_config: {port_range_start: 50000, port_range_end: 50100}").rtc.udp;
    assert_eq!(ranged, UdpPorts::PerSession(PortRange { start: 50000, end: 50100 }));
}

#[test]
fn merge_keys_are_read() {
    let config = good("rtc_config:\n  <<: {udp_port: 7000, use_ice_lite: true}\n  udp_port: 7001");
    assert_eq!(config.rtc.udp, UdpPorts::Shared(PortRange::one(7001)));
    assert!(config.rtc.use_ice_lite);
}

#[test]
fn tls_with_its_files() {
    let path = std::env::temp_dir().join(format!("ingress-rtmps-{}.pem", std::process::id()));
    fs::write(&path, "").unwrap();
    let file = path.display();
    let lines = |port| format!("rtmps_port: {port}\nrtmps_cert_file: {file}\nrtmps_key_file: {file}");
    let tls = good(&lines(1936)).rtmp.tls.unwrap();
    assert_eq!((tls.port, &tls.cert_file, &tls.key_file), (1936, &path, &path));
    let (config, warnings) = with(&lines(0)).unwrap();
    assert_eq!(config.rtmp.tls, None);
    assert_eq!(words(&warnings)[0], "rtmps_cert_file: has no effect without rtmps_port");
    let lines = format!("whip_port: -1\nwhip_tls_port: 8443\nwhip_tls_cert_file: {file}\nwhip_tls_key_file: {file}");
    let whip = good(&lines).whip;
    assert!(whip.enabled() && whip.port.is_none());
    assert_eq!(whip.tls.unwrap().port, 8443);
    assert!(!good("whip_port: -1").whip.enabled());
    fs::remove_file(&path).unwrap();
}

/// Lines added to what is valid, and the one fault they make.
#[test]
fn each_fault_says_what_is_allowed() {
    let table = [
        ("rtmp_port: abc", "rtmp_port: \"abc\" is not a port: 1 to 65535 is allowed, and -1 switches it off"),
        ("health_port: 70000", "health_port: \"70000\" is not a port: 1 to 65535 is allowed, and 0 switches it off"),
        ("rtmp_port: [1]", "rtmp_port: one value is expected here, not a list"),
        ("rtmp_port: {a: b}", "rtmp_port: one value is expected here, not further keys"),
        ("cpu_cost: 2", "cpu_cost: keys with values are expected here (\"key: value\", one to a line)"),
        ("development: maybe", "development: \"maybe\" is neither true nor false"),
        (
            "drain_timeout: 30",
            "drain_timeout: \"30\" is not a length of time: a number with a unit is expected, such as 500ms, 30s, 5m or 3h",
        ),
        ("stall_timeout: 4s", "stall_timeout: is at least 5s: a shorter silence is no stall"),
        ("passthrough: only", "passthrough: \"only\" is neither auto nor never"),
        (
            "passthrough_max_bitrate: 3M",
            "passthrough_max_bitrate: \"3M\" is neither auto nor a number of bits a second",
        ),
        ("on_duplicate: ignore", "on_duplicate: \"ignore\" is neither takeover nor refuse"),
        ("confinement: off", "confinement: \"off\" is none of auto, require and never"),
        ("bind_address: eth0", "bind_address: \"eth0\" is not an address, such as 0.0.0.0, :: or 10.0.0.5"),
        ("rtmp_max_connections: 0", "rtmp_max_connections: \"0\" is not a whole number from 1 to 1000000"),
        (
            "rtmp_proxy_protocol_from: [10.0.0.0/33]",
            "rtmp_proxy_protocol_from: \"10.0.0.0/33\" is not a network, such as 10.0.0.0/8 or fd00::/8",
        ),
        ("whip_forwarded_from: 10.0.0.1", "whip_forwarded_from: a list is expected here, such as [first, second]"),
        ("whip_forwarded_header: via", "whip_forwarded_header: \"via\" is neither x-forwarded-for nor forwarded"),
        (
            "health_bind_address: eth0",
            "health_bind_address: \"eth0\" is not an address, such as 0.0.0.0, :: or 10.0.0.5",
        ),
        ("log_level: loud", "log_level: \"loud\" is not a level: trace, debug, info, warn and error are allowed"),
        (
            "logging: {level: loud}",
            "logging.level: \"loud\" is not a level: trace, debug, info, warn and error are allowed",
        ),
        (
            "logging: {component_levels: {rtmp: 3}}",
            "logging.component_levels.rtmp: \"3\" is not a level: trace, debug, info, warn and error are allowed",
        ),
        ("cpu_cost: {rtmp_cpu_cost: -1}", "cpu_cost.rtmp_cpu_cost: \"-1\" is neither auto nor a number of 0 or more"),
        ("cpu_cost: {url_cpu_cost: inf}", "cpu_cost.url_cpu_cost: \"inf\" is neither auto nor a number of 0 or more"),
        (
            "cpu_cost: {min_idle_ratio: 1}",
            "cpu_cost.min_idle_ratio: \"1\" is not a share: more than 0 and less than 1 is allowed",
        ),
        ("whip_port: 1935", "whip_port: 1935 is also rtmp_port (its default): each needs a port of its own"),
        (
            "health_port: 7888\nprometheus_port: 7888",
            "prometheus_port: 7888 is also health_port: each needs a port of its own",
        ),
        (
            "rtc_config: {tcp_port: 8080}",
            "rtc_config.tcp_port: 8080 is also whip_port (its default): each needs a port of its own",
        ),
        (
            "rtmps_cert_file: /nowhere/c.pem",
            "rtmps_cert_file: \"/nowhere/c.pem\" cannot be opened: No such file or directory (os error 2)",
        ),
        ("rtmps_key_file: /tmp", "rtmps_key_file: \"/tmp\" is a directory, not a file"),
        (
            "rtc_config: {udp_port: 9-7}",
            "rtc_config.udp_port: \"9-7\" is neither a port (1 to 65535) nor a range of ports such as 7885-7890",
        ),
        ("rtc_config: {port_range_start: 5}", "rtc_config.port_range_start: needs port_range_end beside it"),
        ("rtc_config: {port_range_end: 5}", "rtc_config.port_range_end: needs port_range_start beside it"),
        (
            "rtc_config: {port_range_start: 5, port_range_end: 4}",
            "rtc_config.port_range_end: 4 is below port_range_start, which is 5",
        ),
        ("rtc_config: {force_tcp: true}", "rtc_config.force_tcp: needs tcp_port beside it"),
        (
            "rtc_config: {node_ip: host}",
            "rtc_config.node_ip: \"host\" is not an address: an IPv4 address, an IPv6 address or both with a comma between are allowed",
        ),
        (
            "rtc_config: {stun_servers: [host]}",
            "rtc_config.stun_servers: \"host\" is not host:port, such as stun.example.com:3478",
        ),
        (
            "rtc_config: {stun_servers: host}",
            "rtc_config.stun_servers: a list is expected here, such as [first, second]",
        ),
        (
            "rtc_config: {ips: {includes: [eth0]}}",
            "rtc_config.ips.includes: \"eth0\" is not a network, such as 10.0.0.0/8 or fd00::/8",
        ),
        (
            "rtc_config: {turn_servers: [{host: h, port: 1, protocol: sctp, secret: s}]}",
            "rtc_config.turn_servers.protocol: \"sctp\" is none of udp, tcp and tls",
        ),
        (
            "rtc_config: {turn_servers: [{host: 'a b', port: 1, protocol: udp, secret: s}]}",
            "rtc_config.turn_servers.host: \"a b\" is not a host, such as turn.example.com",
        ),
        (
            "rtc_config: {turn_servers: [{host: h, port: 1, protocol: udp, username: u}]}",
            "rtc_config.turn_servers.secret: is missing: a TURN server needs secret, or username and credential",
        ),
        (
            "rtc_config: {turn_servers: [{host: h, protocol: udp, secret: s}]}",
            "rtc_config.turn_servers.port: is missing: a TURN server needs host, port and protocol",
        ),
        (
            "rtc_config: {turn_servers: turn.example.com}",
            "rtc_config.turn_servers: a list is expected here: each entry begins with a dash",
        ),
        ("rtc_config: {<<: 3}", "<<: only mappings can be merged, such as <<: *defaults"),
        ("rtmp_port: 1\nrtmp_port: 2", "the key \"rtmp_port\" is here for the second time"),
        ("? [a]\n: 1", "a key must be a word, not a list or a mapping"),
    ];
    for (lines, expected) in table {
        let faults = with(lines).err().unwrap_or_else(|| panic!("{lines} has no fault"));
        assert_eq!(words(&faults.faults), [expected], "{lines}");
        assert!(faults.faults[0].at.is_some_and(|at| at.line > 4), "{lines}: {:?}", faults.faults[0]);
    }
    let rtmps = with("rtmps_port: 1936").unwrap_err();
    let expected =
        ["rtmps_port: needs rtmps_cert_file beside it (PEM)", "rtmps_port: needs rtmps_key_file beside it (PEM)"];
    assert_eq!(words(&rtmps.faults), expected);
}

#[test]
fn addresses_of_livekit_server() {
    let url = |text: &str| {
        let faults = load_body(&MINIMAL.replace("ws://localhost:7880", text), true);
        faults.map(|(config, _)| config.ws_url.to_string()).map_err(|faults| faults.to_string())
    };
    for (text, expected) in
        [("http://h:7880", "ws://h:7880/"), ("HTTPS://h/path", "wss://h/path"), ("wss://h", "wss://h/")]
    {
        assert_eq!(url(text).as_deref(), Ok(expected), "{text}");
    }
    for text in ["h:7880", "h", "ftp://h", "ws://", "ws://u:hunter2@h", "ws://hunter2@h", "ws://h:hunter2"] {
        let fault = url(text).unwrap_err();
        assert!(fault.contains("ws_url: ") && !fault.contains("hunter2"), "{fault}");
    }
}

#[test]
fn redis_faults() {
    let table = [
        (
            "redis: {address: 'redis://:hunter2@h'}",
            "redis.address: is not host:port, such as localhost:6379 (not a URL: user, password and TLS have keys of their own)",
        ),
        (
            "redis: {password: x}",
            "redis: address, sentinel_addresses or cluster_addresses is needed, for example\n  redis:\n    address: localhost:6379",
        ),
        (
            "redis: {address: ''}",
            "redis: address, sentinel_addresses or cluster_addresses is needed, for example\n  redis:\n    address: localhost:6379",
        ),
        (
            "redis: {sentinel_addresses: [a]}",
            "redis.sentinel_master_name: is missing: the name that the sentinels know the master by, often mymaster",
        ),
        ("redis: {cluster_addresses: a}", "redis.cluster_addresses: a list is expected here, such as [first, second]"),
        ("redis: {address: h, db: -1}", "redis.db: \"-1\" is not a whole number from 0 to 2147483647"),
        (
            "redis: {address: h, tls: {enabled: true, client_cert_file: /dev/null}}",
            "redis.tls.client_cert_file: needs client_key_file beside it",
        ),
        ("redis: localhost", "redis: keys with values are expected here (\"key: value\", one to a line)"),
    ];
    for (line, expected) in table {
        let body = MINIMAL.replace("redis: {address: 'localhost:6379'}", line);
        let faults = load_body(&body, false).err().unwrap_or_else(|| panic!("{line} has no fault"));
        assert_eq!(words(&faults.faults)[0], expected, "{line}");
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
    }
}

#[test]
fn warnings_do_not_stop_the_service() {
    let table = [
        ("rmtp_port: 1", "rmtp_port: this key is not known; did you mean rtmp_port?; it is ignored"),
        ("RTMP-Port: 1", "RTMP-Port: this key is not known; did you mean rtmp_port?; it is ignored"),
        ("rtmp_cpu_cost: 1", "rtmp_cpu_cost: this key is not known; it belongs under cpu_cost; it is ignored"),
        (
            "cpu_cost: {api_secret: 1}",
            "cpu_cost.api_secret: this key is not known; it belongs to no section (no indentation); it is ignored",
        ),
        ("kafka: [x]", "kafka: this key is not known; it is ignored"),
        ("http_relay_port: 9090", "http_relay_port: has no effect: media does not pass over HTTP inside this program"),
        (
            "whip_proxy_enabled: yes",
            "whip_proxy_enabled: has no effect: livekit-server takes no WHIP for this ingress, which passes media on itself where it is \
             not transcoded; let clients reach its media port (rtc_config.udp_port, or rtc_config.tcp_port), as they reached \
             livekit-server's before",
        ),
        ("rtc_config: {sctp_min_cwnd: 4}", "rtc_config.sctp_min_cwnd: has no effect: WHIP has no data channel"),
        (
            "rtc_config: {batch_io: {batch_size: 128}}",
            "rtc_config.batch_io: has no effect: datagrams are read and sent in batches wherever several wait",
        ),
        ("node_id: x", "node_id: has no effect: a new one is made at every start"),
        ("logging: {sample: true}", "logging.sample: has no effect: every line is written"),
        ("log_level: debug\nlogging: {level: warn}", "log_level: has no effect beside logging.level, which is warn"),
        (
            "cpu_cost: {rtmp_cpu_cost: 0}",
            "cpu_cost.rtmp_cpu_cost: 0 admits any number of such sessions, however busy the machine is",
        ),
        ("cpu_cost: {min_idle_ratio: 0}", "cpu_cost.min_idle_ratio: 0 or less means the default, 0.3"),
        (
            "rtc_config: {udp_port: 1, port_range_start: 2, port_range_end: 3}",
            "rtc_config.port_range_start: is used, so udp_port has no effect",
        ),
        ("---\na: b", "a second document begins here; only the first is read"),
    ];
    for (lines, expected) in table {
        let (_, warnings) = with(lines).unwrap_or_else(|faults| panic!("{lines}: {faults}"));
        assert_eq!(words(&warnings), [expected], "{lines}");
    }
    let strict = load_body(&format!("{MINIMAL}rmtp_port: 1\nnode_id: x\n"), true).unwrap_err();
    assert_eq!(words(&strict.faults), ["rmtp_port: this key is not known; did you mean rtmp_port?"]);
    assert_eq!(strict.warnings.len(), 1);
}

/// What a person sees: all faults, in the order of the text, with their lines but for those that may show a secret.
#[test]
fn faults_as_printed() {
    let body = "\
redis:
  adress: localhost:6379
api_key: [devkey, hunter2]
api_secret: hunter2
ws_url: livekit.example.com
rtmp_port: 80000
  \nhealth_port: 8080
cpu_cost:
  rtmp_cpu_cost: two   # CPUs
  min_idle: 0.2
logging: {level: loud, password: hunter2}
";
    let expected = r#"--config-body: 7 faults
line 2, column 3: redis: address, sentinel_addresses or cluster_addresses is needed, for example
  redis:
    address: localhost:6379
  2 |   adress: localhost:6379
    |   ^
line 3, column 10: api_key: one value is expected here, not a list
line 5, column 9: ws_url: is not livekit-server's address, such as ws://localhost:7880 or wss://livekit.example.com (ws, wss, http and https are allowed)
  5 | ws_url: livekit.example.com
    |         ^
line 6, column 12: rtmp_port: "80000" is not a port: 1 to 65535 is allowed, and -1 switches it off
  6 | rtmp_port: 80000
    |            ^
line 8, column 14: health_port: 8080 is also whip_port (its default): each needs a port of its own
  8 | health_port: 8080
    |              ^
line 10, column 18: cpu_cost.rtmp_cpu_cost: "two" is neither auto nor a number of 0 or more
  10 |   rtmp_cpu_cost: two   # CPUs
     |                  ^
line 12, column 18: logging.level: "loud" is not a level: trace, debug, info, warn and error are allowed
warning: line 2, column 3: redis.adress: this key is not known; did you mean address?; it is ignored
  2 |   adress: localhost:6379
    |   ^
warning: line 11, column 3: cpu_cost.min_idle: this key is not known; it is ignored
  11 |   min_idle: 0.2
     |   ^
warning: line 12, column 24: logging.password: this key is not known; it belongs under redis; it is ignored"#;
    let printed = load_body(body, false).unwrap_err().to_string();
    assert_eq!(printed, expected, "\n{printed}");
    assert!(!printed.contains("hunter2"));
}

#[test]
fn another_file_is_not_repeated() {
    for text in ["root:x:0:0:root", "- a\n- b", "-----BEGIN PRIVATE KEY-----"] {
        let printed = load_body(text, false).unwrap_err().to_string();
        assert!(
            printed.ends_with("this is not a configuration: a line such as \"key: value\" is expected"),
            "{printed}"
        );
    }
}

#[test]
fn attacks_get_short_answers() {
    let mut merges = String::from("a0: &a0 {x: 1}\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 50].join(", ");
        merges.push_str(&format!("a{level}: &a{level} {{<<: [{aliases}]}}\n"));
    }
    let faults = with(&format!("{merges}rtc_config: *a29")).unwrap_err();
    assert_eq!(words(&faults.faults), ["<<: too many mappings are merged here"]);
    let keys: String = (0..10_000).map(|key| format!("key{key}: 1\n")).collect();
    assert_eq!(with(&keys).unwrap().1.len(), 51);
    assert!(with(&format!("a: {}", "[".repeat(100_000))).unwrap_err().to_string().contains("not YAML"));
}

#[test]
fn all_missing_keys_are_reported() {
    let faults = load_body("{}", false).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "--config-body: 4 faults\n\
         redis: is missing: this service finds its work through the Redis that livekit-server uses, for example\n  redis:\n    address: localhost:6379\n\
         api_key: is missing: write it here, or set LIVEKIT_API_KEY\n\
         api_secret: is missing: write it here, or set LIVEKIT_API_SECRET\n\
         ws_url: is missing: write it here, or set LIVEKIT_WS_URL"
    );
}

#[test]
fn the_description_hides_secrets_and_reads_back() {
    let mut config = good(
        "rtmp_port: -1\nhealth_port: 7888\ndrain_timeout: 1m\nlogging: {component_levels: {\"a: b\": warn}}\n\
         rtc_config: {node_ip: '1.2.3.4', ips: {includes: [10.0.0.0/8]}, turn_servers: [{host: '::1', port: 1, protocol: tls, secret: hunter2}, {host: t, port: 2, protocol: udp, username: 'a b', credential: hunter2}]}\n\
         service_name: \"q\\\"\\\\\\u0007uote\"",
    );
    config.api_secret = Secret::new("hunter2hunter2");
    config.redis.password = Secret::new("hunter2hunter2");
    config.redis.tls = Some(RedisTls { insecure: true, ..RedisTls::default() });
    for description in [config.describe(), format!("{config:?}")] {
        assert!(!description.contains("hunter2"), "{description}");
    }
    let (mut read, warnings) =
        load_body(&config.describe(), true).unwrap_or_else(|f| panic!("{f}\n{}", config.describe()));
    assert_eq!(warnings, []);
    assert_eq!(read.api_secret.expose(), "(hidden)");
    read.api_secret = config.api_secret.clone();
    read.redis.password = config.redis.password.clone();
    assert_eq!(read.rtc.turn_servers.len(), 2);
    read.rtc.turn_servers.clone_from(&config.rtc.turn_servers);
    assert_eq!(read, config);
}

/// Text that is nearly a configuration: real keys in real and unreal places, values of all kinds.
fn nearly() -> impl Strategy<Value = String> {
    let keys = read::every_key();
    let key = prop_oneof![
        4 => proptest::sample::select(keys).prop_map(|k| k.rsplit('.').next().unwrap_or_default().to_owned()),
        1 => "[a-z_<*&?]{1,8}",
    ];
    let value = prop_oneof![
        "[0-9-]{1,6}",
        "[a-zA-Z0-9:/.,*&!'\"{}\\[\\] -]{0,20}",
        Just("\n    x: [1]".to_owned()),
        Just("&a {b: *a}".to_owned())
    ];
    let line =
        (0..3_usize, key, value).prop_map(|(depth, key, value)| format!("{}{key}: {value}\n", "  ".repeat(depth)));
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn noise_never_panics(text in "\\PC{0,200}") {
        if let Err(faults) = load_body(&format!(" {text}"), false) {
            prop_assert!(!faults.faults.is_empty());
            faults.to_string();
        }
    }

    #[test]
    fn near_configurations_never_panic(text in nearly()) {
        match with(&text) {
            Err(faults) => {
                prop_assert!(!faults.faults.is_empty());
                faults.to_string();
            }
            Ok((config, _)) => {
                let described = config.describe();
                let (mut again, _) = load_body(&described, false).expect("a description is a configuration");
                again.api_secret = config.api_secret.clone();
                again.redis.password = config.redis.password.clone();
                if let RedisTopology::Sentinel { password, .. } = &mut again.redis.topology {
                    password.clone_from(&config.api_secret);
                }
                prop_assert_eq!(again.rtmp, config.rtmp);
                prop_assert_eq!(again.rtc, config.rtc);
                prop_assert_eq!(again.service_name, config.service_name);
            }
        }
    }
}
