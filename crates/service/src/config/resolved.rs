//! The resolved configuration, in which invalid values can't be represented. [`Config::new`] fills in the documented defaults; four keys
//! have none (`redis`, `api_key`, `api_secret`, `ws_url`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use confine::Mode;
use model::{PullGuard, PullLimits, Secret};
use session::Passthrough;
use session::lifecycle::STALL_TIMEOUT;
use url::Url;

use super::redis::RedisConfig;
use super::rtc::{IpNet, RtcConfig};

/// The default port of RTMP: the one that every encoder tries first.
pub const DEFAULT_RTMP_PORT: u16 = 1935;
/// The default port of WHIP (like the Go ingress).
pub const DEFAULT_WHIP_PORT: u16 = 8080;
/// The Go ingress's relay port. It is read, but nothing listens on it: media does not pass over HTTP inside this program.
pub const DEFAULT_HTTP_RELAY_PORT: u16 = 9090;

/// The default for RTMP connections at a time. An idle connection costs a descriptor and some tens of kilobytes. A thousand fit
/// beside the sessions under the usual limit of descriptors (1024 soft, raised at start), and are more than one machine can
/// publish.
pub const DEFAULT_RTMP_MAX_CONNECTIONS: u32 = 1000;
/// The default for RTMP connections at a time from one address: a tenth of all, so that one address cannot fill the machine, while
/// a production site behind one router still fits. Behind a load balancer that hides addresses, raise it.
pub const DEFAULT_RTMP_MAX_CONNECTIONS_PER_ADDRESS: u32 = 100;

/// The default for WHIP's HTTP connections at a time: each lasts for a few requests, and media does not pass over them.
pub const DEFAULT_WHIP_MAX_CONNECTIONS: u32 = 1000;
/// The default for WHIP's HTTP connections at a time from one address: as for RTMP.
pub const DEFAULT_WHIP_MAX_CONNECTIONS_PER_ADDRESS: u32 = 100;

/// The default for pulls at a time that may keep a file on disk: with the default of a gigabyte for each, what a disk for logs and
/// temporary files has to spare (chosen).
pub(super) const DEFAULT_MAX_TEMPORARY_FILES: u32 = 16;

/// The default for how long running sessions may go on after SIGTERM: the grace period of the Helm chart for the Go ingress (which
/// itself waits without end).
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(3 * 60 * 60);

/// The least time that a source may send nothing: as long as it takes until that is said in its state.
pub const MIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys of the Go ingress that are read and checked, and have no effect here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutEffect {
    /// Whether WHIP without transcoding is handed on to the SFU's own WHIP endpoint.
    pub whip_proxy_enabled: bool,
    /// The Go ingress's relay port.
    pub http_relay_port: u16,
    /// The port for debugging; `None` switches it off.
    pub debug_handler_port: Option<u16>,
    /// Skip what an encoder has queued up before a stream, so that it does not stay as latency (RTMP and SRT).
    pub enable_stream_latency_reduction: bool,
    /// Development defaults for `rtc_config`.
    pub development: bool,
}

/// The resolved configuration of the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How to reach Redis.
    pub redis: RedisConfig,
    /// The API key of the tokens we issue. It is not secret: it is in every token.
    pub api_key: String,
    /// The secret that tokens are signed with.
    pub api_secret: Secret,
    /// livekit-server's WebSocket address; its scheme is `ws` or `wss`, and it holds no user or password.
    pub ws_url: Url,
    /// The address that all ports listen on; `::` includes IPv4.
    pub bind_address: IpAddr,
    /// RTMP and RTMPS.
    pub rtmp: RtmpConfig,
    /// WHIP's HTTP side.
    pub whip: WhipConfig,
    /// `/availability` and the health check.
    pub health: PageConfig,
    /// The metrics.
    pub prometheus: PageConfig,
    /// The limits and rules of URL inputs.
    pub url: UrlConfig,
    /// What happens when a second publisher uses the stream key of a running session.
    pub on_duplicate: OnDuplicate,
    /// How far workers are confined.
    pub confinement: Mode,
    /// How long a source that publishes may send no media before its session ends; at least [`MIN_STALL_TIMEOUT`].
    pub stall_timeout: Duration,
    /// Whether the source's own video may be the highest layer of a transcoded session.
    pub passthrough: Passthrough,
    /// How long running sessions may go on after SIGTERM, before they are ended. Zero ends them at once.
    pub drain_timeout: Duration,
    /// Logging.
    pub logging: LoggingConfig,
    /// The estimated CPU cost of sessions.
    pub cpu_cost: CpuCost,
    /// WHIP's WebRTC side.
    pub rtc: RtcConfig,
    /// The name of this program in its logs.
    pub service_name: String,
    /// What has no effect.
    pub without_effect: WithoutEffect,
}

/// A port with pages for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageConfig {
    /// The port; `None` switches it off.
    pub port: Option<u16>,
    /// The address that it listens on, in place of `bind_address`.
    pub bind_address: Option<IpAddr>,
}

/// RTMP and RTMPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtmpConfig {
    /// The port of plain RTMP; `None` switches it off.
    pub port: Option<u16>,
    /// RTMP over TLS; `None` switches it off.
    pub tls: Option<TlsConfig>,
    /// Connections at a time, of RTMP and RTMPS together, publishing or not; at least 1.
    pub max_connections: u32,
    /// Connections at a time from one address; at least 1.
    pub max_connections_per_address: u32,
    /// Balancers whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// WHIP's HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhipConfig {
    /// The port of HTTP; `None` switches it off.
    pub port: Option<u16>,
    /// HTTPS; `None` switches it off.
    pub tls: Option<TlsConfig>,
    /// Connections at a time, of HTTP and HTTPS together; at least 1.
    pub max_connections: u32,
    /// Connections at a time from one address; at least 1.
    pub max_connections_per_address: u32,
    /// Proxies that tell whose request they pass on.
    pub forwarded_from: Vec<IpNet>,
    /// The header that they tell it in.
    pub forwarded_header: ForwardedHeader,
}

/// The header in which proxies tell whose request they pass on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, as most write it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// As written in the configuration: the header's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl WhipConfig {
    /// Whether WHIP has a port.
    pub fn enabled(&self) -> bool {
        self.port.is_some() || self.tls.is_some()
    }
}

/// A port with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The port.
    pub port: u16,
    /// The certificate chain, PEM. It was readable when the configuration was loaded.
    pub cert_file: PathBuf,
    /// The private key, PEM. It was readable when the configuration was loaded.
    pub key_file: PathBuf,
}

/// Limits and rules of URL inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct UrlConfig {
    /// The URLs that `https://alias.invalid/NAME` stands for. They may hold logins.
    pub aliases: BTreeMap<String, Secret>,
    /// The hosts that a pull may connect to.
    pub guard: PullGuard,
    /// The limits of a pull.
    pub limits: PullLimits,
    /// Pulls at a time that may keep a file on disk.
    pub temporary_files: u32,
}

impl Default for UrlConfig {
    fn default() -> Self {
        let (guard, limits) = (PullGuard::default(), PullLimits::default());
        Self { aliases: BTreeMap::new(), guard, limits, temporary_files: DEFAULT_MAX_TEMPORARY_FILES }
    }
}

/// What happens when a second publisher uses the stream key of a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It takes the session over, and the first is disconnected (as in the Go ingress, through the SFU).
    Takeover,
    /// It is refused.
    Refuse,
}

impl OnDuplicate {
    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Refuse => "refuse",
        }
    }
}

/// The lowest severity of lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The lowest severity.
    pub level: LogLevel,
    /// Whether a line is a JSON object; if not, it is text for people.
    pub json: bool,
    /// Levels of parts of the program, by name: a crate (`rtmp`) or a module in it (`service.control`).
    pub component_levels: BTreeMap<String, LogLevel>,
}

/// What sessions cost, in cores, where the operator knows better than what is measured (`None`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuCost {
    /// RTMP, transcoded.
    pub rtmp: Option<f64>,
    /// WHIP, transcoded.
    pub whip: Option<f64>,
    /// WHIP passthrough, and passthrough of any other input.
    pub whip_bypass_transcoding: Option<f64>,
    /// A pulled URL, transcoded.
    pub url: Option<f64>,
    /// The share of the machine that is kept free; more than 0 and less than 1.
    pub min_idle_ratio: f64,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self {
            port: Some(DEFAULT_RTMP_PORT),
            tls: None,
            max_connections: DEFAULT_RTMP_MAX_CONNECTIONS,
            max_connections_per_address: DEFAULT_RTMP_MAX_CONNECTIONS_PER_ADDRESS,
            proxy_protocol_from: Vec::new(),
        }
    }
}

impl Default for WhipConfig {
    fn default() -> Self {
        Self {
            port: Some(DEFAULT_WHIP_PORT),
            tls: None,
            max_connections: DEFAULT_WHIP_MAX_CONNECTIONS,
            max_connections_per_address: DEFAULT_WHIP_MAX_CONNECTIONS_PER_ADDRESS,
            forwarded_from: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
        }
    }
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, json: false, component_levels: BTreeMap::new() }
    }
}

/// All costs are measured. (The Go ingress documents 2.0 and 0.1; its code leaves them at 0, which admits any number.)
impl Default for CpuCost {
    fn default() -> Self {
        Self { rtmp: None, whip: None, whip_bypass_transcoding: None, url: None, min_idle_ratio: 0.3 }
    }
}

impl Config {
    /// The four keys without a default, and the defaults of all others.
    pub fn new(redis: RedisConfig, api_key: String, api_secret: Secret, ws_url: Url) -> Self {
        Self {
            redis,
            api_key,
            api_secret,
            ws_url,
            bind_address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            rtmp: RtmpConfig::default(),
            whip: WhipConfig::default(),
            health: PageConfig::default(),
            prometheus: PageConfig::default(),
            url: UrlConfig::default(),
            on_duplicate: OnDuplicate::Takeover,
            confinement: Mode::Auto,
            stall_timeout: STALL_TIMEOUT,
            passthrough: Passthrough::default(),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            logging: LoggingConfig::default(),
            cpu_cost: CpuCost::default(),
            rtc: RtcConfig::default(),
            service_name: "ingress".to_owned(),
            without_effect: WithoutEffect {
                whip_proxy_enabled: false,
                http_relay_port: DEFAULT_HTTP_RELAY_PORT,
                debug_handler_port: None,
                enable_stream_latency_reduction: false,
                development: false,
            },
        }
    }
}
