//! Reads the sections `url` and `url_aliases`: where a pull may lead, and what it may cost.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{HostRule, Proxies, PullGuard, PullLimits, Secret};
use url::Url;

use super::resolved::{DEFAULT_MAX_TEMPORARY_FILES, UrlConfig};
use super::section::{Known, Located, Section};

/// Reads both sections.
pub(super) fn read(mut section: Section<'_, '_>, mut aliases: Section<'_, '_>, known: &mut Vec<Known>) -> UrlConfig {
    let default = PullLimits::default();
    let guard = PullGuard {
        allow: section.list("allow", host_rule),
        deny: section.list("deny", host_rule),
        refuse_private: section.flag("refuse_private"),
        own: Vec::new(),
        proxies: Proxies::default(),
    };
    let bytes = |section: &mut Section<'_, '_>, key| {
        let given = section.int(key, 0..=i64::MAX)?;
        Some(given.value.unsigned_abs()).filter(|n| *n > 0)
    };
    let limits = PullLimits {
        play_time: section.duration("max_play_time").map(|d| d.value).filter(|d| !d.is_zero()),
        bytes: bytes(&mut section, "max_bytes"),
        file_size: bytes(&mut section, "max_file_size"),
        temporary: bytes(&mut section, "max_temporary_file").unwrap_or(default.temporary),
        timeout: timeout(&mut section, "timeout", default.timeout),
        reconnect: section.duration("reconnect").map_or(default.reconnect, |d| d.value),
    };
    let temporary_files = files(&mut section, DEFAULT_MAX_TEMPORARY_FILES);
    known.push(section.finish());
    let mut named = BTreeMap::new();
    for (name, Located { value, at }) in aliases.every_text() {
        match alias(&name, &value) {
            Ok(url) => _ = named.insert(name, url),
            Err(why) => aliases.fault(at, &name, why),
        }
    }
    known.push(aliases.finish());
    UrlConfig { aliases: named, guard, limits, temporary_files }
}

/// How many temporary files there may be at a time.
fn files(section: &mut Section<'_, '_>, default: u32) -> u32 {
    let given = section.int("max_temporary_files", 0..=10_000);
    given.and_then(|n| u32::try_from(n.value).ok()).unwrap_or(default)
}

/// A timeout of at least 100 ms: with a shorter one nothing could be pulled.
fn timeout(section: &mut Section<'_, '_>, key: &'static str, default: Duration) -> Duration {
    let Some(Located { value, at }) = section.duration(key) else { return default };
    if value < Duration::from_millis(100) {
        section.fault(at, key, "is too short: 100ms and more is allowed");
        return default;
    }
    value
}

/// Checks an alias. The error does not repeat the URL, which may hold a login.
fn alias(name: &str, url: &str) -> Result<Secret, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(good) {
        return Err("is not a name for an alias: letters, digits, '-', '_' and '.' are allowed".to_owned());
    }
    let url = model::url_as_typed(url.trim());
    let parsed = Url::parse(&url).map_err(|_| "is not the address of a source, such as rtsp://host/path".to_owned())?;
    if !matches!(parsed.scheme(), "http" | "https" | "srt" | "rtsp" | "rtsps" | "rtspt" | "rtspu") {
        return Err("has a scheme that can't be pulled: http, https, srt, rtsp and rtsps are allowed".to_owned());
    }
    Ok(Secret::new(url.into_owned()))
}

/// One line of a list of hosts: a name, `*.` and a name, an address, or a range such as 10.0.0.0/8.
fn host_rule(text: &str) -> Result<HostRule, String> {
    let text = text.trim().to_ascii_lowercase();
    if let Some((ip, bits)) = text.split_once('/') {
        let range = ip.parse::<std::net::IpAddr>().ok().zip(bits.parse::<u8>().ok());
        let fits = |(ip, bits): &(std::net::IpAddr, u8)| *bits <= if ip.is_ipv4() { 32 } else { 128 };
        return match range.filter(fits) {
            Some((ip, bits)) => Ok(HostRule::Range(ip, bits)),
            None => Err(format!("{text:?} is not a range of addresses, such as 10.0.0.0/8 or fd00::/8")),
        };
    }
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok(HostRule::Range(ip, if ip.is_ipv4() { 32 } else { 128 }));
    }
    let (name, below) = text.strip_prefix("*.").map_or((text.as_str(), false), |name| (name, true));
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(good) {
        return Err(format!("{text:?} is not a host: a name, *. and a name, an address or a range is allowed"));
    }
    let name = name.trim_end_matches('.').to_owned();
    Ok(if below { HostRule::Below(name) } else { HostRule::Host(name) })
}
