//! Reads a whole configuration: keys outside any section, `logging` and `cpu_cost`, and checks across sections.

use std::collections::BTreeMap;
use std::net::IpAddr;

use confine::Mode;
use model::{Proxies, Secret};
use url::Url;

use super::fault::{Remark, Report, Warning, shortened};
use super::redis;
use super::resolved::{
    Config, CpuCost, DEFAULT_DRAIN_TIMEOUT, DEFAULT_HTTP_RELAY_PORT, DEFAULT_RTMP_MAX_CONNECTIONS,
    DEFAULT_RTMP_MAX_CONNECTIONS_PER_ADDRESS, DEFAULT_RTMP_PORT, DEFAULT_WHIP_MAX_CONNECTIONS,
    DEFAULT_WHIP_MAX_CONNECTIONS_PER_ADDRESS, DEFAULT_WHIP_PORT, ForwardedHeader, LogLevel, LoggingConfig,
    MIN_STALL_TIMEOUT, OnDuplicate, PageConfig, RtmpConfig, TlsConfig, WhipConfig,
};
use super::rtc;
use super::section::{Known, Located, Port, Section, without_line_end};
use super::unknown;
use super::yaml::{self, Value};

/// Looks up an environment variable.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Returns the configuration if it has no fault, the faults, and the warnings.
pub(super) fn read(text: &str, strict: bool, env: Env<'_>) -> (Option<Config>, Vec<Remark>, Vec<Warning>) {
    let report = Report::new(text);
    let config = match yaml::parse(text) {
        Ok(document) => {
            for (at, why) in document.faults {
                report.broken(at, why);
            }
            if let Some(at) = document.second {
                report.warn(Some(at), "", "a second document begins here; only the first is read");
            }
            match document.root {
                Some(node) if !node.is_null() && !matches!(node.value, Value::Map(_)) => {
                    // Probably another file, so its text is not shown.
                    report.broken(
                        node.at,
                        "this is not a configuration: a line such as \"key: value\" is expected".to_owned(),
                    );
                    None
                }
                root => {
                    let mut known = Vec::new();
                    let config = whole(Section::root(&report, root), env, &mut known);
                    unknown::report(&known, strict, &report);
                    config
                }
            }
        }
        Err(broken) => {
            report.broken(broken.at, broken.text);
            None
        }
    };
    let (faults, warnings) = report.into_parts();
    (config.filter(|_| faults.is_empty()), faults, warnings)
}

fn whole(mut section: Section<'_, '_>, env: Env<'_>, known: &mut Vec<Known>) -> Option<Config> {
    let required = required(&mut section, env, known);
    let complete = required.is_some();
    // Where something is missing, stand-ins let the rest be read; the result is discarded.
    let mut config = required.unwrap_or_else(stand_in);
    ports(&mut section, &mut config, known);
    operation(&mut section, &mut config);
    config.url = super::url_input::read(section.section("url"), section.section("url_aliases"), known);
    config.url.guard.proxies = proxies(&section, env);
    config.logging = logging(&mut section, known);
    config.cpu_cost = cpu_cost(section.section("cpu_cost"), known);
    known.push(section.finish());
    complete.then_some(config)
}

/// Reads the four keys without a default.
fn required(section: &mut Section<'_, '_>, env: Env<'_>, known: &mut Vec<Known>) -> Option<Config> {
    let redis = redis::read(section.section("redis"), known);
    let api_key = or_env(section, "api_key", "LIVEKIT_API_KEY", env);
    let api_secret = or_env(section, "api_secret", "LIVEKIT_API_SECRET", env);
    let ws_url = ws_url(section, env);
    Some(Config::new(redis?, api_key?, Secret::new(api_secret?), ws_url?))
}

fn stand_in() -> Config {
    let address = psrpc::redis::Address { host: "localhost".to_owned(), port: 6379 };
    let ws_url = Url::parse("ws://localhost:7880").expect("a URL that is one");
    Config::new(redis::RedisConfig::single(address), String::new(), Secret::default(), ws_url)
}

/// A text from the YAML, or else from the environment; a fault if neither has it.
fn or_env(section: &mut Section<'_, '_>, key: &'static str, variable: &str, env: Env<'_>) -> Option<String> {
    let given = section.has(key);
    let from_env = || env(variable).map(|v| without_line_end(&v).to_owned()).filter(|v| !v.is_empty() && !given);
    let found = section.text(key).map(|t| t.value).or_else(from_env);
    if found.is_none() && !given {
        section.report().fault(None, key, format!("is missing: write it here, or set {variable}"));
    }
    found
}

fn ws_url(section: &mut Section<'_, '_>, env: Env<'_>) -> Option<Url> {
    const VARIABLE: &str = "LIVEKIT_WS_URL";
    if section.has("ws_url") {
        return section.parsed("ws_url", parse_ws_url).map(|u| u.value);
    }
    let text = or_env(section, "ws_url", VARIABLE, env)?;
    match parse_ws_url(text.trim()) {
        Ok(url) => Some(url),
        Err(why) => {
            section.report().fault(None, "ws_url", format!("{why} (from {VARIABLE})"));
            None
        }
    }
}

/// Parses livekit-server's URL; http and https become ws and wss. The error does not repeat the text, which may hold a login.
fn parse_ws_url(text: &str) -> Result<Url, String> {
    let wrong = || {
        "is not livekit-server's address, such as ws://localhost:7880 or wss://livekit.example.com (ws, wss, http and https \
         are allowed)"
            .to_owned()
    };
    let text = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => format!("ws://{rest}"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => format!("wss://{rest}"),
        _ => text.to_owned(),
    };
    let url = Url::parse(&text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password: api_key and api_secret are all that is needed".to_owned());
    }
    let usable = matches!(url.scheme(), "ws" | "wss") && url.host_str().is_some_and(|h| !h.is_empty());
    usable.then_some(url).ok_or_else(wrong)
}

/// Reads all ports.
fn ports(section: &mut Section<'_, '_>, config: &mut Config, known: &mut Vec<Known>) {
    let (rtc, ice_tcp) = rtc::read(section.section("rtc_config"), known);
    let rtmp = section.port("rtmp_port", Some(DEFAULT_RTMP_PORT));
    let rtmps = section.port("rtmps_port", None);
    let whip = section.port("whip_port", Some(DEFAULT_WHIP_PORT));
    let whip_tls = section.port("whip_tls_port", None);
    let health = section.port("health_port", None);
    let prometheus = section.port("prometheus_port", None);
    let debug = section.port("debug_handler_port", None);
    clashes(section, &[&rtmp, &rtmps, &whip, &whip_tls, &health, &prometheus, &debug, &ice_tcp]);
    let relay = section.port("http_relay_port", Some(DEFAULT_HTTP_RELAY_PORT));
    if let Some(at) = relay.at {
        section.warn(at, "http_relay_port", "has no effect: media does not pass over HTTP inside this program");
    }
    if let (Some(at), Some(_)) = (debug.at, debug.port) {
        section.warn(at, "debug_handler_port", "has no effect: there is nothing behind it yet");
    }
    config.rtc = rtc;
    config.rtmp = RtmpConfig {
        port: rtmp.port,
        tls: tls_files(section, &rtmps, ["rtmps_cert_file", "rtmps_key_file"]),
        max_connections: count(section, "rtmp_max_connections", DEFAULT_RTMP_MAX_CONNECTIONS),
        max_connections_per_address: count(
            section,
            "rtmp_max_connections_per_address",
            DEFAULT_RTMP_MAX_CONNECTIONS_PER_ADDRESS,
        ),
        proxy_protocol_from: section.list("rtmp_proxy_protocol_from", rtc::net),
    };
    config.whip = WhipConfig {
        port: whip.port,
        tls: tls_files(section, &whip_tls, ["whip_tls_cert_file", "whip_tls_key_file"]),
        max_connections: count(section, "whip_max_connections", DEFAULT_WHIP_MAX_CONNECTIONS),
        max_connections_per_address: count(
            section,
            "whip_max_connections_per_address",
            DEFAULT_WHIP_MAX_CONNECTIONS_PER_ADDRESS,
        ),
        forwarded_from: section.list("whip_forwarded_from", rtc::net),
        forwarded_header: forwarded_header(section),
    };
    config.health = PageConfig { port: health.port, bind_address: address(section, "health_bind_address") };
    config.prometheus = PageConfig { port: prometheus.port, bind_address: address(section, "prometheus_bind_address") };
    config.without_effect.debug_handler_port = debug.port;
    config.without_effect.http_relay_port = relay.port.unwrap_or(DEFAULT_HTTP_RELAY_PORT);
    config.bind_address = address(section, "bind_address").unwrap_or(config.bind_address);
}

/// An address of this machine to listen on.
fn address(section: &mut Section<'_, '_>, key: &'static str) -> Option<IpAddr> {
    let read = |text: &str| {
        let wrong = || format!("{:?} is not an address, such as 0.0.0.0, :: or 10.0.0.5", shortened(text));
        text.parse::<IpAddr>().map_err(|_| wrong())
    };
    section.parsed(key, read).map(|address| address.value)
}

fn forwarded_header(section: &mut Section<'_, '_>) -> ForwardedHeader {
    let headers = [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];
    let read = |text: &str| {
        let wrong = || format!("{:?} is neither x-forwarded-for nor forwarded", shortened(text));
        headers.into_iter().find(|header| header.name().eq_ignore_ascii_case(text)).ok_or_else(wrong)
    };
    section.parsed("whip_forwarded_header", read).map(|header| header.value).unwrap_or_default()
}

/// Reports ports that are used twice, at the later position.
fn clashes(section: &Section<'_, '_>, ports: &[&Port]) {
    for (index, port) in ports.iter().enumerate() {
        for other in &ports[index + 1..] {
            let (Some(number), true) = (port.port, port.port == other.port) else { continue };
            let (first, second) = if other.at >= port.at { (port, other) } else { (other, port) };
            let default = if first.at.is_none() { " (its default)" } else { "" };
            let text = format!("{number} is also {}{default}: each needs a port of its own", first.key);
            section.report().fault(second.at, &second.key, text);
        }
    }
}

/// Reads TLS. With a port it needs both files, certificate and key.
fn tls_files(section: &mut Section<'_, '_>, tls: &Port, files: [&'static str; 2]) -> Option<TlsConfig> {
    let [cert, key] = files.map(|name| (section.has(name), section.file(name)));
    let Some((port, at)) = tls.port.zip(tls.at) else {
        for (name, (_, file)) in files.iter().zip([&cert, &key]) {
            if let Some(Located { at, .. }) = file {
                section.warn(*at, name, format!("has no effect without {}", tls.key));
            }
        }
        return None;
    };
    for (name, (given, _)) in files.iter().zip([&cert, &key]) {
        if !given {
            section.fault(at, &tls.key, format!("needs {name} beside it (PEM)"));
        }
    }
    Some(TlsConfig { port, cert_file: cert.1?.value, key_file: key.1?.value })
}

/// A count of at least 1.
fn count(section: &mut Section<'_, '_>, key: &'static str, default: u32) -> u32 {
    let given = section.int(key, 1..=1_000_000);
    given.and_then(|c| u32::try_from(c.value).ok()).unwrap_or(default)
}

/// Reads what concerns operation, apart from ports.
fn operation(section: &mut Section<'_, '_>, config: &mut Config) {
    let on_duplicate = section.parsed("on_duplicate", |text| match text {
        "takeover" => Ok(OnDuplicate::Takeover),
        "refuse" => Ok(OnDuplicate::Refuse),
        _ => Err(format!("{:?} is neither takeover nor refuse", shortened(text))),
    });
    config.on_duplicate = on_duplicate.map_or(config.on_duplicate, |o| o.value);
    let confinement = section.parsed("confinement", |text| {
        Mode::parse(text).ok_or_else(|| format!("{:?} is none of auto, require and never", shortened(text)))
    });
    config.confinement = confinement.map_or(config.confinement, |mode| mode.value);
    config.drain_timeout = section.duration("drain_timeout").map_or(DEFAULT_DRAIN_TIMEOUT, |d| d.value);
    passthrough(section, config);
    if let Some(timeout) = section.duration("stall_timeout") {
        if timeout.value < MIN_STALL_TIMEOUT {
            section.fault(timeout.at, "stall_timeout", "is at least 5s: a shorter silence is no stall".to_owned());
        }
        config.stall_timeout = timeout.value;
    }
    config.without_effect.whip_proxy_enabled = proxy(section);
    config.without_effect.enable_stream_latency_reduction = section.flag("enable_stream_latency_reduction");
    if let Some(at) = section.at_set("enable_stream_latency_reduction") {
        let why = "has no effect and is not needed: latency is always kept low";
        section.warn(at, "enable_stream_latency_reduction", why);
    }
    config.without_effect.development = section.flag("development");
    if let Some(at) = section.at_set("development") {
        section.warn(at, "development", "has no effect: rtc_config is the same everywhere");
    }
    if let Some(name) = section.text("service_name") {
        config.service_name = name.value;
    }
    if let Some(id) = section.text("node_id") {
        section.warn(id.at, "node_id", "has no effect: a new one is made at every start");
    }
}

/// The proxies that the environment names, for signalling and for pulled URLs.
fn proxies(section: &Section<'_, '_>, env: Env<'_>) -> Proxies {
    let (proxies, faults) = Proxies::of_environment(env);
    for fault in faults {
        section.report().warn(None, "", fault);
    }
    proxies
}

/// WHIP is never handed on to the SFU: passthrough here costs next to nothing, and one place knows the session.
fn proxy(section: &mut Section<'_, '_>) -> bool {
    const KEY: &str = "whip_proxy_enabled";
    let on = section.flag(KEY);
    if let (true, Some(at)) = (on, section.at_key(KEY)) {
        section.warn(at, KEY, "has no effect: livekit-server takes no WHIP for this ingress, which passes media on itself where it is not transcoded; let clients reach \
             its media port (rtc_config.udp_port, or rtc_config.tcp_port), as they reached livekit-server's before");
    }
    on
}

/// Reads `log_level`, which the Go program's README names, and the `logging` section, which takes precedence over it.
fn logging(root: &mut Section<'_, '_>, known: &mut Vec<Known>) -> LoggingConfig {
    let short = root.parsed("log_level", level);
    let mut section = root.section("logging");
    let long = section.parsed("level", level);
    if let (Some(short), Some(long)) = (&short, &long)
        && short.value != long.value
    {
        root.warn(
            short.at,
            "log_level",
            format!("has no effect beside logging.level, which is {}", long.value.as_str()),
        );
    }
    let sample = section.flag("sample");
    for key in
        ["sample_initial", "sample_interval", "item_sample_seconds", "item_sample_initial", "item_sample_interval"]
    {
        section.int(key, 0..=i64::from(i32::MAX));
    }
    if let (true, Some(at)) = (sample, section.at()) {
        section.warn(at, "sample", "has no effect: every line is written");
    }
    let mut components = section.section("component_levels");
    let mut component_levels = BTreeMap::new();
    for (name, text) in components.every_text() {
        match level(text.value.trim()) {
            Ok(level) => _ = component_levels.insert(name, level),
            Err(why) => components.fault(text.at, &name, why),
        }
    }
    let json = section.flag("json");
    known.push(section.finish());
    let level = long.or(short).map_or(LogLevel::Info, |l| l.value);
    LoggingConfig { level, json, component_levels }
}

/// Reads a level of the Go program's logger. The three above `error`, which end the process there, are `error` here.
fn level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" | "dpanic" | "panic" | "fatal" => Ok(LogLevel::Error),
        _ => Err(format!("{:?} is not a level: trace, debug, info, warn and error are allowed", shortened(text))),
    }
}

/// `auto` (`None`), or what `parse` takes; `what` names that.
fn auto_or<T>(text: &str, parse: impl Fn(&str) -> Option<T>, what: &str) -> Result<Option<T>, String> {
    if text == "auto" {
        return Ok(None);
    }
    parse(text).map(Some).ok_or_else(|| format!("{:?} is neither auto nor {what}", shortened(text)))
}

fn passthrough(section: &mut Section<'_, '_>, config: &mut Config) {
    let enabled = section.parsed("passthrough", |text| match text {
        "auto" => Ok(true),
        "never" => Ok(false),
        _ => Err(format!("{:?} is neither auto nor never", shortened(text))),
    });
    let bits = |text: &str| text.replace('_', "").parse::<u64>().ok().filter(|bits| *bits > 0);
    let max_bitrate =
        section.parsed("passthrough_max_bitrate", |text| auto_or(text, bits, "a number of bits a second"));
    let wish = &mut config.passthrough;
    wish.enabled = enabled.map_or(wish.enabled, |given| given.value);
    wish.max_bitrate = max_bitrate.map_or(wish.max_bitrate, |given| given.value);
    if let Some(interval) = section.duration("passthrough_max_keyframe_interval") {
        wish.max_keyframe_interval = interval.value;
    }
}

fn cpu_cost(mut section: Section<'_, '_>, known: &mut Vec<Known>) -> CpuCost {
    let default = CpuCost::default();
    let mut cost = |key: &'static str| {
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let Located { value, at } = section.parsed(key, |text| auto_or(text, number, "a number of 0 or more"))?;
        if value == Some(0.0) {
            section.warn(at, key, "0 admits any number of such sessions, however busy the machine is");
        }
        value
    };
    let mut costs = CpuCost {
        rtmp: cost("rtmp_cpu_cost"),
        whip: cost("whip_cpu_cost"),
        whip_bypass_transcoding: cost("whip_bypass_transcoding_cpu_cost"),
        url: cost("url_cpu_cost"),
        min_idle_ratio: default.min_idle_ratio,
    };
    let ratio = section.parsed("min_idle_ratio", |text| {
        let ratio = text.parse::<f64>().ok().filter(|r| *r < 1.0 && r.is_finite());
        ratio.ok_or_else(|| format!("{:?} is not a share: more than 0 and less than 1 is allowed", shortened(text)))
    });
    match ratio {
        Some(Located { value, .. }) if value > 0.0 => costs.min_idle_ratio = value,
        Some(Located { at, .. }) => {
            section.warn(at, "min_idle_ratio", format!("0 or less means the default, {}", default.min_idle_ratio));
        }
        None => {}
    }
    known.push(section.finish());
    costs
}

/// Every key there is, with the sections it is in.
#[cfg(test)]
pub(super) fn every_key() -> Vec<String> {
    let report = Report::new("");
    let mut known = Vec::new();
    whole(Section::root(&report, None), &|_| None, &mut known);
    let join = |path: &str, key: &&str| if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") };
    known.iter().flat_map(|k| k.asked.iter().map(|key| join(&k.path, key))).collect()
}
