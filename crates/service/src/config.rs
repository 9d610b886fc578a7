//! Configuration: the Go ingress's YAML and environment variables, read into a [`Config`] in which only valid values exist.
//!
//! Everything wrong is reported together, each fault with its line, its key and what is allowed. Nothing here binds a port or
//! connects to anything; the only files opened are the configuration itself and those it names.

mod describe;
mod duration;
mod fault;
mod read;
mod redis;
mod resolved;
mod rtc;
mod section;
mod sources;
mod turn;
mod unknown;
mod url_input;
mod yaml;

pub use fault::{Faults, Position, Remark, Warning};
pub use model::TurnTransport;
pub use redis::{ClientCertificate, RedisConfig, RedisTls, RedisTopology};
pub use resolved::{
    Config, CpuCost, DEFAULT_DRAIN_TIMEOUT, DEFAULT_HTTP_RELAY_PORT, DEFAULT_RTMP_MAX_CONNECTIONS,
    DEFAULT_RTMP_MAX_CONNECTIONS_PER_ADDRESS, DEFAULT_RTMP_PORT, DEFAULT_WHIP_MAX_CONNECTIONS,
    DEFAULT_WHIP_MAX_CONNECTIONS_PER_ADDRESS, DEFAULT_WHIP_PORT, ForwardedHeader, LogLevel, LoggingConfig,
    MIN_STALL_TIMEOUT, OnDuplicate, PageConfig, RtmpConfig, TlsConfig, UrlConfig, WhipConfig,
};
pub use rtc::{
    AcceptanceMinWait, BatchIo, DEFAULT_UDP_PORT, Filter, IpNet, NodeIp, PortRange, RtcConfig, Sctp, UdpPorts,
};
pub use sources::{Sources, load, process_env};
pub use turn::{DEFAULT_TURN_TTL, TurnAccess, TurnServer};

#[cfg(test)]
mod tests;
