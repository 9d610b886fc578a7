//! The cookies of one pull (RFC 6265): CDNs let segments be fetched only by who shows the cookie that came with the playlist. Pure: `now`
//! goes in, in seconds since 1970.

use crate::Address;
use model::Secret;
use std::net::IpAddr;

/// Cookies that are kept; the oldest goes first. Real pulls have below 10.
const MAX_COOKIES: usize = 64;
/// The longest cookie in bytes, as browsers allow (RFC 6265 §6.1).
const MAX_COOKIE: usize = 4096;
/// Cookies sent with one request, in bytes: servers take heads of 8 KiB.
const MAX_SENT: usize = 6144;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Jar(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: String,
    value: Secret,
    /// The host that set it, or the domain that it is for.
    domain: String,
    /// Only for that host itself.
    host_only: bool,
    path: String,
    secure: bool,
    expires: Option<u64>,
}

impl Jar {
    /// Takes the value of a `Set-Cookie` of an answer from `from`. One that is wrong, or not for that host, is left out.
    pub(super) fn take(&mut self, from: &Address, line: &str, now: u64) {
        let Some(cookie) = Cookie::parse(from, line, now) else { return };
        self.0.retain(|c| (&c.name, &c.domain, &c.path) != (&cookie.name, &cookie.domain, &cookie.path));
        if cookie.is_over(now) {
            return;
        }
        if self.0.len() == MAX_COOKIES {
            self.0.remove(0);
        }
        self.0.push(cookie);
    }

    /// The value of the `Cookie` header of a request; `None` without any.
    pub(super) fn for_request(&self, to: &Address, now: u64) -> Option<String> {
        let mut found: Vec<&Cookie> = self.0.iter().filter(|c| !c.is_over(now) && c.is_for(to)).collect();
        // Those of longer paths first (RFC 6265 §5.4).
        found.sort_by_key(|c| std::cmp::Reverse(c.path.len()));
        let mut text = String::new();
        for cookie in found {
            let pair = format!("{}={}", cookie.name, cookie.value.expose());
            if text.len() + pair.len() > MAX_SENT {
                break;
            }
            text += if text.is_empty() { "" } else { "; " };
            text += &pair;
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Cookie {
    fn parse(from: &Address, line: &str, now: u64) -> Option<Self> {
        if line.len() > MAX_COOKIE || line.chars().any(char::is_control) {
            return None;
        }
        let mut parts = line.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim().to_owned(), Secret::from(value.trim().to_owned()));
        let (domain, path) = (from.host(), default_path(from));
        let mut cookie = Self { name, value, domain, host_only: true, path, secure: false, expires: None };
        let mut max_age = false;
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.is_empty() => {
                    (cookie.domain, cookie.host_only) = (domain_of(value, &from.host())?, false);
                }
                "path" if value.starts_with('/') => cookie.path = value.to_owned(),
                "secure" => cookie.secure = true,
                "max-age" => {
                    if let Ok(seconds) = value.parse::<i64>() {
                        max_age = true;
                        let seconds = u64::try_from(seconds).unwrap_or(0);
                        cookie.expires = Some(if seconds == 0 { 0 } else { now.saturating_add(seconds) });
                    }
                }
                "expires" if !max_age => cookie.expires = date(value).or(cookie.expires),
                _ => {}
            }
        }
        (!cookie.name.is_empty()).then_some(cookie)
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    fn is_for(&self, to: &Address) -> bool {
        let (host, path) = (to.host(), to.path_and_query());
        let path = path.split('?').next().unwrap_or_default();
        let of_host = host == self.domain || (!self.host_only && is_below(&host, &self.domain));
        let rest = path.strip_prefix(self.path.as_str());
        let of_path = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        of_host && of_path && (!self.secure || to.is_encrypted())
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.parse::<IpAddr>().is_err() && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// The domain that a host may set a cookie for: itself, or one above it with a dot in its name. Which of those belong to a registry
/// ("co.uk") is not looked up: a pull meets no hosts but those of its own source.
fn domain_of(value: &str, host: &str) -> Option<String> {
    let domain = value.trim_start_matches('.').to_ascii_lowercase();
    let allowed = domain == host || (domain.contains('.') && is_below(host, &domain));
    allowed.then_some(domain)
}

/// The directory of what was asked for (RFC 6265 §5.1.4).
fn default_path(of: &Address) -> String {
    let path = of.path_and_query();
    let path = path.split('?').next().unwrap_or_default();
    match path.rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => directory.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Reads a date in any of the forms that are in use, as RFC 6265 §5.1.1 says; gives seconds since 1970, 0 for all before.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|t| !t.is_empty()) {
        let number = token.parse::<i64>().ok().filter(|_| token.len() <= 4);
        let named = token.get(..3).and_then(|t| MONTHS.iter().position(|m| t.eq_ignore_ascii_case(m)));
        let clock: Vec<i64> = token.split(':').filter_map(|t| t.parse().ok()).filter(|n| (0..60).contains(n)).collect();
        match (number, named, clock.as_slice()) {
            (None, _, [hour, minute, second]) if time.is_none() => time = Some(hour * 3600 + minute * 60 + second),
            (Some(n), ..) if day.is_none() && token.len() <= 2 => day = Some(n),
            (_, Some(m), _) if month.is_none() => month = i64::try_from(m).ok(),
            (Some(n), ..) if year.is_none() && token.len() >= 2 => {
                year = Some(if n < 70 {
                    n + 2000
                } else if n < 100 {
                    n + 1900
                } else {
                    n
                });
            }
            _ => {}
        }
    }
    let seconds = days(year?, month? + 1, day?) * 86_400 + time?;
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Days since 1970 in the Gregorian calendar ("days_from_civil", Hinnant, for years from 0 on).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn sent(set: &[(&str, &str)], to: &str) -> Option<String> {
        let mut jar = Jar::default();
        set.iter().for_each(|(from, line)| jar.take(&at(from), line, NOW));
        jar.for_request(&at(to), NOW)
    }

    #[test]
    fn cookies_go_where_they_are_for() {
        let list = "https://a.cdn.example/live/list.m3u8?x=/y";
        let one = |line: &str, to: &str| sent(&[(list, line)], to).is_some();
        assert_eq!(
            sent(&[(list, "hdntl=exp=1~acl=/*; path=/; HttpOnly")], "https://a.cdn.example/x.ts").unwrap(),
            "hdntl=exp=1~acl=/*"
        );
        assert!(one("a=1", "https://a.cdn.example/live/1.ts") && one("a=1", "http://a.cdn.example:8080/live/b/1.ts"));
        assert!(
            !one("a=1", "https://a.cdn.example/other/1.ts") && !one("a=1", "https://a.cdn.example/livestream/1.ts")
        );
        assert!(
            !one("a=1; path=/", "https://b.cdn.example/1.ts") && !one("a=1; path=/", "https://x.a.cdn.example/1.ts")
        );
        assert!(one("a=1; path=/; Domain=.CDN.example", "https://b.cdn.example/1.ts"));
        for domain in ["example", "evil.example", "x.a.cdn.example", "n.example", "cdn.example.evil"] {
            assert!(!one(&format!("a=1; path=/; domain={domain}"), "https://a.cdn.example/1.ts"), "{domain}");
        }
        assert!(
            !one("a=1; secure", "http://a.cdn.example/live/1.ts")
                && one("a=1; Secure", "https://a.cdn.example/live/1.ts")
        );
        assert!(sent(&[("http://10.0.0.1/", "a=1; domain=0.0.1")], "http://10.0.0.1/").is_none());
        for wrong in ["", "=1", "a", "a=1\u{1}"] {
            assert!(!one(wrong, list), "{wrong}");
        }
    }

    #[test]
    fn cookies_are_replaced_and_deleted() {
        let list = "http://h/list.m3u8";
        assert_eq!(sent(&[(list, "a=1"), (list, "b=2"), (list, "a=3")], list).unwrap(), "b=2; a=3");
        for over in [
            "Max-Age=0",
            "max-age=-5",
            "Expires=Thu, 01-Jan-1970 00:00:01 GMT",
            "expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            assert_eq!(sent(&[(list, "a=1"), (list, &format!("a=; {over}"))], list), None, "{over}");
        }
        let later = "Expires=Wed, 30 Nov 2033 00:00:00 GMT";
        assert!(sent(&[(list, &format!("a=1; {later}"))], list).is_some());
        assert!(sent(&[(list, &format!("a=1; {later}; Max-Age=0"))], list).is_none(), "Max-Age goes first");
    }

    #[test]
    fn dates_are_read_in_all_forms() {
        let expected = 784_111_777;
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06-Nov-1994 08:49:37",
        ] {
            assert_eq!(date(text), Some(expected), "{text}");
        }
        assert_eq!((date("never"), date("Mon, 01 Jan 1601 00:00:00 GMT")), (None, Some(0)));
    }

    #[test]
    fn what_is_kept_and_sent_is_bounded() {
        let mut jar = Jar::default();
        for i in 0..1000 {
            jar.take(&at("http://h/"), &format!("n{i}={}", "x".repeat(1000)), NOW);
        }
        assert_eq!(jar.0.len(), MAX_COOKIES);
        assert!(jar.for_request(&at("http://h/"), NOW).unwrap().len() <= MAX_SENT);
        jar.take(&at("http://g/"), &format!("n={}", "x".repeat(5000)), NOW);
        assert_eq!(jar.for_request(&at("http://g/"), NOW), None);
        // Of a secret no more than its ends is shown.
        assert!(!format!("{jar:?}").contains("xxxx"));
    }

    proptest! {
        #[test]
        fn noise_never_panics(line in ".{0,100}", attributes in "(; ?(domain|path|expires|max-age|secure)=?[ -~]{0,30}){0,4}") {
            let mut jar = Jar::default();
            jar.take(&at("http://a.example/b/c"), &line, NOW);
            jar.take(&at("http://a.example/b/c"), &format!("a=b{attributes}"), NOW);
            let sent = jar.for_request(&at("http://a.example/b/c"), NOW).unwrap_or_default();
            prop_assert!(!sent.contains(['\r', '\n']));
        }
    }
}
