//! HTTP proxies of this machine's environment: which one leads to a host, and what is said to it to get there (RFC 9110 §9.3.6).

use crate::pull::HostRule;
use crate::{Secret, in_range};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Bytes of a proxy's answer at most: a status line and a few headers.
const MAX_ANSWER: usize = 16 << 10;

/// A proxy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// Its name or address; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password`, where it wants one.
    login: Option<String>,
}

/// Without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The proxies that lead out of here, and where none is used. By default none is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    plain: Option<Proxy>,
    tls: Option<Proxy>,
    except: Vec<Except>,
}

/// Hosts that are reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Except {
    All,
    Hosts(HostRule, Option<u16>),
}

/// What a proxy answers to [`Proxy::connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAnswer {
    /// The way is open; what follows this many bytes is of the host.
    Open(usize),
    /// More of the answer is to come.
    Partial,
    /// It does not lead there, for this reason.
    Refused(String),
}

impl Proxies {
    /// Those that the environment names, as curl and Go read it: `HTTPS_PROXY` for `https` and `wss`, `HTTP_PROXY` for `http` and `ws`,
    /// `ALL_PROXY` for what neither names, `NO_PROXY` for hosts that are reached without; the names in small letters come first. Gives, as
    /// second, what is wrong with those that can't be used, in words without a secret.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let mut read = |name: &str| {
            let names = [name.to_ascii_lowercase(), name.to_owned()];
            let (name, value) = names
                .into_iter()
                .find_map(|n| Some((variable(&n).filter(|v| !v.trim().is_empty())?, n)))
                .map(|(v, n)| (n, v))?;
            Proxy::read(&value).map_err(|why| faults.push(format!("{name}: {why}; it is not used"))).ok()
        };
        let all = read("ALL_PROXY");
        let (plain, tls) = (read("HTTP_PROXY").or_else(|| all.clone()), read("HTTPS_PROXY").or(all));
        let none = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
        let except = none.split([',', ' ']).map(str::trim).filter(|e| !e.is_empty()).map(Except::read).collect();
        (Self { plain, tls, except }, faults)
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.plain.is_none() && self.tls.is_none()
    }

    /// The proxy that leads to this host (IPv6 without brackets), if one is to be used. `tls`: for `https` and `wss`.
    pub fn leading_to(&self, tls: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if tls { self.tls.as_ref() } else { self.plain.as_ref() }?;
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok();
        // This machine itself, as in curl and Go.
        let own = host == "localhost" || host.ends_with(".localhost") || ip.is_some_and(|ip| ip.is_loopback());
        (!own && !self.except.iter().any(|except| except.holds(&host, ip, port))).then_some(proxy)
    }
}

impl Except {
    /// An entry of `NO_PROXY`: `*`, a name (of itself and what is below it), `.name` or `*.name` (of what is below it), an address or a network;
    /// each with a port or without.
    fn read(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Self::All;
        }
        if let Some(rule) = range(&text) {
            return Self::Hosts(rule, None);
        }
        let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => (host.to_owned(), Some(port)),
            _ => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if let Some(rule) = range(host) {
            return Self::Hosts(rule, port);
        }
        match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
            Some(below) => Self::Hosts(HostRule::Below(below.to_owned()), port),
            None => Self::Hosts(HostRule::Host(host.to_owned()), port),
        }
    }

    fn holds(&self, host: &str, ip: Option<IpAddr>, at: u16) -> bool {
        let Self::Hosts(rule, port) = self else { return true };
        let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        port.is_none_or(|port| port == at)
            && match rule {
                HostRule::Host(name) => host == name || below(name),
                HostRule::Below(name) => below(name),
                HostRule::Range(net, bits) => ip.is_some_and(|ip| in_range(ip, *net, *bits)),
            }
    }
}

/// An address, or a network with the length of its prefix.
fn range(text: &str) -> Option<HostRule> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().ok()?;
    let all = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some(HostRule::Range(ip, bits))
}

impl Proxy {
    /// Reads `http://user:password@host:port`, of which only the host is needed.
    fn read(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("only proxies that are reached by http:// are supported");
        }
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let address = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let bad = "it names no host";
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or(bad)?,
            None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("its port is no number from 1 to 65535")?,
            None => 80,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(bad);
        }
        Ok(Self { host: host.to_owned(), port, login: login.map(unescaped) })
    }

    /// What to send for a way to this host.
    pub fn connect(&self, host: &str, port: u16) -> Secret {
        let to = authority(host, port);
        let login = self.authorization().map(|login| format!("Proxy-Authorization: {}\r\n", login.expose()));
        Secret::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n", login.unwrap_or_default()))
    }

    /// The value of `Proxy-Authorization`, where it wants one.
    pub fn authorization(&self) -> Option<Secret> {
        Some(Secret::new(format!("Basic {}", STANDARD.encode(self.login.as_ref()?))))
    }

    /// Reads the answer to [`Proxy::connect`], as far as it has come, where the client speaks first: behind an answer that opens the way
    /// there may be nothing yet.
    pub fn answer_alone(head: &[u8]) -> ProxyAnswer {
        match Self::answer(head) {
            ProxyAnswer::Open(length) if length < head.len() => {
                ProxyAnswer::Refused("it says more than it was asked".into())
            }
            answer => answer,
        }
    }

    /// Reads the answer to [`Proxy::connect`], as far as it has come.
    fn answer(head: &[u8]) -> ProxyAnswer {
        let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            let long = head.len() >= MAX_ANSWER || (head.len() >= 5 && !head.starts_with(b"HTTP/"));
            return if long { ProxyAnswer::Refused("it speaks no HTTP".into()) } else { ProxyAnswer::Partial };
        };
        let line = head[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status =
            line.split(|byte| *byte == b' ').nth(1).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        match status {
            Some(200..=299) => ProxyAnswer::Open(end + 4),
            Some(407) => ProxyAnswer::Refused("it wants another login (407)".into()),
            Some(code @ 100..=999) => ProxyAnswer::Refused(format!("it answers {code}")),
            _ => ProxyAnswer::Refused("it speaks no HTTP".into()),
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A login in a URL is percent-encoded (RFC 3986 §2.1).
fn unescaped(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let coded = after
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(coded.unwrap_or(byte));
        rest = if coded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(variables: &[(&str, &str)]) -> (Proxies, Vec<String>) {
        Proxies::of_environment(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn way(variables: &[(&str, &str)], tls: bool, host: &str, port: u16) -> Option<String> {
        of(variables).0.leading_to(tls, host, port).map(ToString::to_string)
    }

    #[test]
    fn variables_as_curl_and_go_read_them() {
        let https = [("HTTPS_PROXY", "http://p:3128")];
        assert_eq!(way(&https, true, "h", 443), Some("p:3128".into()));
        assert_eq!(way(&https, false, "h", 80), None);
        assert_eq!(way(&[("ALL_PROXY", "p"), ("HTTP_PROXY", "q:1")], false, "h", 80), Some("q:1".into()));
        assert_eq!(way(&[("ALL_PROXY", "p"), ("HTTP_PROXY", "q:1")], true, "h", 80), Some("p:80".into()));
        assert_eq!(way(&[("https_proxy", "small"), ("HTTPS_PROXY", "large")], true, "h", 1), Some("small:80".into()));
        assert_eq!(way(&[("HTTPS_PROXY", "http://[::1]:3/x")], true, "h", 1), Some("[::1]:3".into()));
        for own in ["localhost", "127.0.0.1", "::1", "a.localhost"] {
            assert_eq!(way(&https, true, own, 443), None, "{own}");
        }
        let (none, faults) =
            of(&[("HTTPS_PROXY", "socks5://u:secret@p"), ("HTTP_PROXY", "http://u:secret@:1"), ("ALL_PROXY", " ")]);
        assert!(none.is_empty() && faults.len() == 2 && !faults.concat().contains("secret"), "{faults:?}");
    }

    #[test]
    fn exceptions_are_names_networks_and_ports() {
        for (except, host, port, without) in [
            ("*", "h", 1, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "a.example.com", 443, true),
            ("example.com", "anexample.com", 443, false),
            (".example.com", "example.com", 443, false),
            ("*.example.com", "a.example.com", 443, true),
            ("a, b.c ,EXAMPLE.com.", "Example.com.", 443, true),
            ("example.com:8443", "example.com", 443, false),
            ("example.com:443", "example.com", 443, true),
            ("10.0.0.0/8", "10.1.2.3", 1, true),
            ("10.0.0.0/8", "11.1.2.3", 1, false),
            ("10.1.2.3:1", "10.1.2.3", 1, true),
            ("fd00::/8", "fd00::1", 1, true),
            ("[fd00::1]:7", "fd00::1", 7, true),
            ("fd00::1", "fd00::1", 7, true),
        ] {
            let way = way(&[("HTTPS_PROXY", "p"), ("NO_PROXY", except)], true, host, port);
            assert_eq!(way.is_none(), without, "{except}: {host}:{port}");
        }
    }

    #[test]
    fn what_is_said_to_a_proxy() {
        let (proxies, _) = of(&[("HTTPS_PROXY", "http://north:p%40ss@p:1")]);
        let proxy = proxies.leading_to(true, "h", 443).unwrap();
        // By Python: base64.b64encode(b"north:p@ss")
        let login = "Proxy-Authorization: Basic bm9ydGg6cEBzcw==\r\n";
        assert_eq!(proxy.connect("h", 443).expose(), format!("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n{login}\r\n"));
        assert!(proxy.connect("fd00::1", 1).expose().starts_with("CONNECT [fd00::1]:1 HTTP/1.1\r\n"));
        assert!(!format!("{proxies:?}").contains("north"));
        assert_eq!(Proxy::answer(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nmore"), ProxyAnswer::Open(45));
        assert_eq!(Proxy::answer(b"HTTP/1.0 200\r\n"), ProxyAnswer::Partial);
        for (answer, why) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], "it answers 403"),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it wants another login (407)"),
            (b"SSH-2.0-OpenSSH", "it speaks no HTTP"),
            (b"HTTP/1.1 ok\r\n\r\n", "it speaks no HTTP"),
        ] {
            assert_eq!(Proxy::answer(answer), ProxyAnswer::Refused(why.into()));
        }
    }

    proptest! {
        #[test]
        fn any_texts_break_nothing(value in ".*", none in ".*", host in ".*", answer in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (proxies, _) = of(&[("ALL_PROXY", &value), ("NO_PROXY", &none)]);
            if let Some(proxy) = proxies.leading_to(true, &host, 443) {
                prop_assert!(proxy.connect("h", 1).expose().ends_with("\r\n\r\n"));
                prop_assert!(!proxy.host.contains(|c: char| c.is_whitespace()));
            }
            if let ProxyAnswer::Open(length) = Proxy::answer(&answer) {
                prop_assert!(length <= answer.len());
            }
        }
    }
}
