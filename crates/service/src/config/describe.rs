//! Prints the resolved configuration as YAML, with secrets hidden. It reads back to the same configuration, except for the secrets.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use model::Secret;

use super::duration;
use super::redis::{RedisConfig, RedisTls, RedisTopology};
use super::resolved::{Config, OnDuplicate, UrlConfig};
use super::rtc::{Filter, RtcConfig, UdpPorts};
use super::turn::{TurnAccess, TurnServer};

/// Printed in place of a secret.
const HIDDEN: &str = "(hidden)";

impl Config {
    /// Every key with its value in effect, as YAML, with secrets hidden.
    pub fn describe(&self) -> String {
        let mut out = Yaml::default();
        out.section("redis", |out| redis(out, &self.redis));
        out.text("api_key", &self.api_key);
        out.secret("api_secret", &self.api_secret);
        out.text("ws_url", self.ws_url.as_str());
        out.plain("bind_address", format!("\"{}\"", self.bind_address));
        self.ports(&mut out);
        out.section("url", |out| url(out, &self.url));
        if !self.url.aliases.is_empty() {
            out.section("url_aliases", |out| {
                for (name, address) in &self.url.aliases {
                    out.text(name, &without_login(address));
                }
            });
        }
        out.plain("on_duplicate", OnDuplicate::as_str(self.on_duplicate));
        out.plain("confinement", self.confinement.as_str());
        out.duration("stall_timeout", self.stall_timeout);
        out.plain("passthrough", if self.passthrough.enabled { "auto" } else { "never" });
        out.auto_or("passthrough_max_bitrate", self.passthrough.max_bitrate);
        out.duration("passthrough_max_keyframe_interval", self.passthrough.max_keyframe_interval);
        out.duration("drain_timeout", self.drain_timeout);
        out.plain("enable_stream_latency_reduction", self.without_effect.enable_stream_latency_reduction);
        out.plain("development", self.without_effect.development);
        out.section("logging", |out| {
            out.plain("level", self.logging.level.as_str());
            out.plain("json", self.logging.json);
            out.section("component_levels", |out| {
                for (name, level) in &self.logging.component_levels {
                    out.plain(&quoted(name), level.as_str());
                }
            });
        });
        out.section("cpu_cost", |out| {
            let costs = &self.cpu_cost;
            out.auto_or("rtmp_cpu_cost", costs.rtmp);
            out.auto_or("whip_cpu_cost", costs.whip);
            out.auto_or("whip_bypass_transcoding_cpu_cost", costs.whip_bypass_transcoding);
            out.auto_or("url_cpu_cost", costs.url);
            out.plain("min_idle_ratio", costs.min_idle_ratio);
        });
        out.section("rtc_config", |out| rtc(out, &self.rtc));
        out.text("service_name", &self.service_name);
        out.text
    }

    fn ports(&self, out: &mut Yaml) {
        // -1 switches off a port that has a default, 0 one that has none.
        let or_off = |port: Option<u16>| port.map_or(-1, i32::from);
        out.plain("rtmp_port", or_off(self.rtmp.port));
        match &self.rtmp.tls {
            None => out.plain("rtmps_port", 0),
            Some(tls) => {
                out.plain("rtmps_port", tls.port);
                out.path("rtmps_cert_file", &tls.cert_file);
                out.path("rtmps_key_file", &tls.key_file);
            }
        }
        out.plain("rtmp_max_connections", self.rtmp.max_connections);
        out.plain("rtmp_max_connections_per_address", self.rtmp.max_connections_per_address);
        out.list("rtmp_proxy_protocol_from", &self.rtmp.proxy_protocol_from);
        out.plain("whip_port", or_off(self.whip.port));
        match &self.whip.tls {
            None => out.plain("whip_tls_port", 0),
            Some(tls) => {
                out.plain("whip_tls_port", tls.port);
                out.path("whip_tls_cert_file", &tls.cert_file);
                out.path("whip_tls_key_file", &tls.key_file);
            }
        }
        out.plain("whip_max_connections", self.whip.max_connections);
        out.plain("whip_max_connections_per_address", self.whip.max_connections_per_address);
        out.list("whip_forwarded_from", &self.whip.forwarded_from);
        out.plain("whip_forwarded_header", self.whip.forwarded_header.name());
        out.plain("whip_proxy_enabled", self.without_effect.whip_proxy_enabled);
        for (name, page) in [("health", &self.health), ("prometheus", &self.prometheus)] {
            out.plain(&format!("{name}_port"), page.port.unwrap_or(0));
            let address = page.bind_address.map(|address| address.to_string()).unwrap_or_default();
            out.text(&format!("{name}_bind_address"), &address);
        }
        out.plain("debug_handler_port", self.without_effect.debug_handler_port.unwrap_or(0));
    }
}

fn redis(out: &mut Yaml, redis: &RedisConfig) {
    match &redis.topology {
        RedisTopology::Single(address) => out.plain("address", quoted(&address.to_string())),
        RedisTopology::Sentinel { master_name, addresses, username, password } => {
            out.list("sentinel_addresses", addresses);
            out.text("sentinel_master_name", master_name);
            out.text("sentinel_username", username);
            out.secret("sentinel_password", password);
        }
        RedisTopology::Cluster { addresses, max_redirects } => {
            out.list("cluster_addresses", addresses);
            out.plain("max_redirects", max_redirects);
        }
    }
    out.text("username", &redis.username);
    out.secret("password", &redis.password);
    out.plain("db", redis.db);
    if let Some(tls) = &redis.tls {
        out.section("tls", |out| redis_tls(out, tls));
    }
    for (key, timeout) in [
        ("dial_timeout", redis.dial_timeout),
        ("read_timeout", redis.read_timeout),
        ("write_timeout", redis.write_timeout),
    ] {
        if let Some(timeout) = timeout {
            out.plain(key, timeout.as_millis());
        }
    }
}

fn redis_tls(out: &mut Yaml, tls: &RedisTls) {
    out.plain("enabled", true);
    out.plain("insecure", tls.insecure);
    if let Some(name) = &tls.server_name {
        out.text("server_name", name);
    }
    if let Some(file) = &tls.ca_cert_file {
        out.path("ca_cert_file", file);
    }
    if let Some(client) = &tls.client {
        out.path("client_cert_file", &client.cert_file);
        out.path("client_key_file", &client.key_file);
    }
}

fn url(out: &mut Yaml, url: &UrlConfig) {
    out.list("allow", &url.guard.allow);
    out.list("deny", &url.guard.deny);
    out.plain("refuse_private", url.guard.refuse_private);
    out.duration("max_play_time", url.limits.play_time.unwrap_or_default());
    out.plain("max_bytes", url.limits.bytes.unwrap_or(0));
    out.plain("max_file_size", url.limits.file_size.unwrap_or(0));
    out.plain("max_temporary_file", url.limits.temporary);
    out.plain("max_temporary_files", url.temporary_files);
    out.duration("timeout", url.limits.timeout);
    out.duration("reconnect", url.limits.reconnect);
}

/// The URL of an alias without what may be private: its scheme, host and port.
fn without_login(address: &Secret) -> String {
    let Ok(url) = url::Url::parse(address.expose()) else { return HIDDEN.to_owned() };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}/", url.scheme(), url.host_str().unwrap_or_default())
}

fn rtc(out: &mut Yaml, rtc: &RtcConfig) {
    match rtc.udp {
        UdpPorts::Shared(range) => out.plain("udp_port", range),
        UdpPorts::PerSession(range) => {
            out.plain("port_range_start", range.start);
            out.plain("port_range_end", range.end);
        }
    }
    out.plain("tcp_port", rtc.tcp_port.unwrap_or(0));
    out.plain("use_stun_port_as_ice", rtc.use_stun_port_as_ice);
    let ips = [rtc.node_ip.v4.map(|ip| ip.to_string()), rtc.node_ip.v6.map(|ip| ip.to_string())];
    out.text("node_ip", &ips.into_iter().flatten().collect::<Vec<_>>().join(","));
    out.list("stun_servers", &rtc.stun_servers);
    out.each("turn_servers", &rtc.turn_servers, turn);
    out.plain("use_external_ip", rtc.use_external_ip);
    out.plain("skip_external_ip_validation", rtc.skip_external_ip_validation);
    out.plain("advertise_internal_ip", rtc.advertise_internal_ip);
    out.plain("external_ip_only", rtc.external_ip_only);
    out.plain("use_ice_lite", rtc.use_ice_lite);
    out.plain("check_private_candidates", rtc.check_private_candidates);
    out.section("interfaces", |out| filter(out, &rtc.interfaces));
    out.section("ips", |out| filter(out, &rtc.ips));
    out.plain("enable_loopback_candidate", rtc.enable_loopback_candidate);
    out.plain("use_mdns", rtc.use_mdns);
    out.plain("force_tcp", rtc.force_tcp);
    out.section("batch_io", |out| {
        out.plain("batch_size", rtc.batch_io.batch_size);
        out.duration("max_flush_interval", rtc.batch_io.max_flush_interval);
    });
    out.plain("sctp_min_cwnd", rtc.sctp.min_cwnd.unwrap_or(0));
    out.plain("sctp_fast_rtx_wnd", rtc.sctp.fast_rtx_wnd.unwrap_or(0));
    out.plain("sctp_cwnd_ca_step", rtc.sctp.cwnd_ca_step.unwrap_or(0));
    out.duration("host_acceptance_min_wait", rtc.acceptance_min_wait.host.unwrap_or_default());
    out.duration("srflx_acceptance_min_wait", rtc.acceptance_min_wait.srflx.unwrap_or_default());
    out.duration("prflx_acceptance_min_wait", rtc.acceptance_min_wait.prflx.unwrap_or_default());
    out.duration("relay_acceptance_min_wait", rtc.acceptance_min_wait.relay.unwrap_or_default());
}

fn turn(out: &mut Yaml, server: &TurnServer) {
    out.text("host", &server.host);
    out.plain("port", server.port);
    out.plain("protocol", server.protocol.as_str());
    match &server.access {
        TurnAccess::Fixed { username, credential } => {
            out.text("username", username);
            out.secret("credential", credential);
        }
        TurnAccess::Shared { secret, ttl } => {
            out.secret("secret", secret);
            out.plain("ttl", ttl.as_secs());
        }
    }
}

fn filter<T: Display>(out: &mut Yaml, filter: &Filter<T>) {
    out.list("includes", &filter.includes);
    out.list("excludes", &filter.excludes);
}

/// A text in quotes, such that YAML reads it back whatever is in it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Writes YAML.
#[derive(Default)]
struct Yaml {
    text: String,
    depth: usize,
}

impl Yaml {
    fn plain(&mut self, key: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:1$}{key}: {value}", "", self.depth * 2);
    }

    fn auto_or(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.plain(key, value),
            None => self.plain(key, "auto"),
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, quoted(value));
    }

    fn secret(&mut self, key: &str, value: &Secret) {
        self.plain(key, if value.is_empty() { "\"\"" } else { HIDDEN });
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.text(key, &value.display().to_string());
    }

    fn duration(&mut self, key: &str, value: Duration) {
        self.plain(key, duration::show(value));
    }

    fn list<T: Display>(&mut self, key: &str, items: &[T]) {
        let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
        self.plain(key, format!("[{}]", items.join(", ")));
    }

    /// A list of sections, each with at least one key.
    fn each<T>(&mut self, key: &str, items: &[T], inside: impl Fn(&mut Self, &T)) {
        if items.is_empty() {
            return self.plain(key, "[]");
        }
        let _ = writeln!(self.text, "{:1$}{key}:", "", self.depth * 2);
        for item in items {
            let mut entry = Self { text: String::new(), depth: self.depth + 2 };
            inside(&mut entry, item);
            let dash = (self.depth + 1) * 2;
            entry.text.replace_range(dash..dash + 1, "-");
            self.text.push_str(&entry.text);
        }
    }

    fn section(&mut self, key: &str, inside: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.text, "{:1$}{key}:", "", self.depth * 2);
        self.depth += 1;
        inside(self);
        self.depth -= 1;
    }
}
