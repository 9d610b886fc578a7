//! `ingress health`: asks the ingress that runs with the same configuration how it is, for containers' health checks. It asks the process
//! itself and nothing behind it: that Redis or livekit-server is away is no reason to restart an ingress whose sessions go on.

use service::config::Config;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For the connection, for sending, and for each read. An ingress under load answers within milliseconds; health checks usually give a
/// command 1 to 30 s.
const DEADLINE: Duration = Duration::from_secs(3);

/// Longer than any answer of ours with its headers.
const MAX_ANSWER: u64 = 4096;

/// RTMP §5.2.2.
const RTMP_VERSION: u8 = 3;

/// Why no good answer came.
#[derive(Debug)]
pub(crate) enum Unhealthy {
    /// The configuration opens no port that can be asked.
    NoPort,
    /// Nothing answers there.
    Silent(SocketAddr, io::Error),
    /// What answers says no, or is no ingress.
    Answer(SocketAddr, String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort => write!(f, "nothing can be asked: set health_port in the configuration"),
            Self::Silent(address, why) => write!(f, "no ingress answers at {address}: {why}"),
            Self::Answer(address, answer) => write!(f, "the ingress at {address} says: {answer}"),
        }
    }
}

/// Where to ask: `health_port`, else WHIP's port, which has the same pages, else, only for being alive, RTMP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Http(u16, &'static str),
    Rtmp(u16),
}

fn port(config: &Config, available: bool) -> Option<Port> {
    let path = if available { "/availability" } else { "/health" };
    let http = config.health.port.or(config.whip.port).map(|port| Port::Http(port, path));
    http.or_else(|| config.rtmp.port.filter(|_| !available).map(Port::Rtmp))
}

/// The address of this machine that an ingress bound to `bind` answers at.
fn local(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(a) if a.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Such a socket takes IPv4 too, and machines without IPv6 have no ::1.
        IpAddr::V6(a) if a.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(a.into(), IpAddr::V4),
        bound => bound,
    }
}

/// Asks whether it is alive, or with `available` whether it takes new sessions. Gives its answer.
///
/// # Errors
/// [`Unhealthy`].
pub(crate) fn ask(config: &Config, available: bool) -> Result<String, Unhealthy> {
    let port = port(config, available).ok_or(Unhealthy::NoPort)?;
    let own = config.health.bind_address.filter(|_| config.health.port.is_some());
    let bind = own.unwrap_or(config.bind_address);
    let first = ask_at(local(bind), port);
    let everywhere = matches!(bind, IpAddr::V6(bind) if bind.is_unspecified());
    if !(everywhere && matches!(first, Err(Unhealthy::Silent(..)))) {
        return first;
    }
    // A machine with IPv6 alone.
    match ask_at(Ipv6Addr::LOCALHOST.into(), port) {
        Err(Unhealthy::Silent(..)) => first,
        answer => answer,
    }
}

fn ask_at(ip: IpAddr, port: Port) -> Result<String, Unhealthy> {
    match port {
        Port::Http(port, path) => ask_http(SocketAddr::new(ip, port), path),
        Port::Rtmp(port) => greet_rtmp(SocketAddr::new(ip, port)),
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.set_write_timeout(Some(DEADLINE))?;
    Ok(connection)
}

/// A GET, and the text of an answer of 200.
fn ask_http(address: SocketAddr, path: &str) -> Result<String, Unhealthy> {
    let answer = get(address, path).map_err(|why| Unhealthy::Silent(address, why))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.trim().to_owned()),
        Some(status) => Err(Unhealthy::Answer(address, format!("{status} {}", body.trim()))),
        None => Err(Unhealthy::Answer(address, "nothing that is HTTP".to_owned())),
    }
}

/// The answer to a GET, head and body.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = connect(address)?;
    // In one piece: who closes after the first would reset the connection, and its answer would be lost.
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The first step of RTMP's handshake (RTMP §5.2): C0 and C1, to which S0, the version, comes back.
fn greet_rtmp(address: SocketAddr) -> Result<String, Unhealthy> {
    match rtmp_version(address).map_err(|why| Unhealthy::Silent(address, why))? {
        RTMP_VERSION => Ok("Healthy".to_owned()),
        _ => Err(Unhealthy::Answer(address, "nothing that is RTMP".to_owned())),
    }
}

/// The version that an RTMP server answers a greeting with.
fn rtmp_version(address: SocketAddr) -> io::Result<u8> {
    const C1_SIZE: usize = 1536;
    let mut connection = connect(address)?;
    let mut greeting = [0; 1 + C1_SIZE];
    greeting[0] = RTMP_VERSION;
    connection.write_all(&greeting)?;
    let mut version = [0];
    connection.read_exact(&mut version)?;
    Ok(version[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::config::{self, Sources};
    use std::net::TcpListener;

    fn configured(keys: &str) -> Config {
        let body = format!(
            "{{redis: {{address: 'localhost:6379'}}, api_key: k, api_secret: a-secret-of-enough-letters-0123, ws_url: 'ws://localhost:7880', {keys}}}"
        );
        let sources = Sources { file: None, body: Some(body), strict: true, env: &|_| None };
        config::load(&sources).map_err(|e| e.to_string()).unwrap().0
    }

    /// Answers one connection with these bytes once something came, and gives its port.
    fn answering(bytes: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 2048]);
            let _ = connection.write_all(bytes);
        });
        port
    }

    fn asked(answer: &'static [u8]) -> Result<String, String> {
        let config = configured(&format!("bind_address: 127.0.0.1, health_port: {}", answering(answer)));
        ask(&config, false).map_err(|e| e.to_string())
    }

    #[test]
    fn the_port_is_the_first_that_can_be_asked() {
        let of = |keys, available| port(&configured(keys), available);
        assert_eq!(of("health_port: 7888", false), Some(Port::Http(7888, "/health")));
        assert_eq!(of("health_port: 7888", true), Some(Port::Http(7888, "/availability")));
        assert_eq!(of("whip_port: 8081", false), Some(Port::Http(8081, "/health")));
        assert_eq!(of("whip_port: -1", false), Some(Port::Rtmp(1935)));
        assert_eq!(of("whip_port: -1", true), None, "RTMP can't say whether there is room");
    }

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(asked(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nHealthy"), Ok("Healthy".to_owned()));
        for (answer, words) in [
            (&b"HTTP/1.1 503 Service Unavailable\r\n\r\nNo availability"[..], "503 No availability"),
            (&b"OpenSSH\r\n"[..], "nothing that is HTTP"),
            (&b""[..], "nothing that is HTTP"),
        ] {
            assert!(asked(answer).unwrap_err().contains(words), "{answer:?}");
        }
    }

    #[test]
    fn rtmp_is_greeted() {
        let with = |answer| ask(&configured(&format!("whip_port: -1, rtmp_port: {}", answering(answer))), false);
        assert_eq!(with(b"\x03").map_err(|e| e.to_string()), Ok("Healthy".to_owned()));
        assert!(matches!(with(b"HTTP"), Err(Unhealthy::Answer(..))));
        assert!(matches!(with(b""), Err(Unhealthy::Silent(..))));
    }

    #[test]
    fn a_bound_address_is_asked_there() {
        for (bind, asked) in [
            ("::", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("fd00::7", "fd00::7"),
        ] {
            assert_eq!(local(bind.parse().unwrap()), asked.parse::<IpAddr>().unwrap());
        }
    }
}
