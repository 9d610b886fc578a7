//! URLs that can be pulled. They print without login and query.

use crate::{Error, guard};
use std::fmt;
use std::net::IpAddr;
use url::Url;

/// The URL schemes that can be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheme {
    Http,
    Https,
    Srt,
    Rtsp,
    Rtsps,
}

/// A URL that can be pulled. `Display` and `Debug` show neither login nor query.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    /// The scheme.
    pub scheme: Scheme,
    /// Somebody on the internet led here, or what is here came from there: from it, nothing leads to a private address.
    outside: bool,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`Error::Scheme`], [`Error::Address`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        // "srt://:9000" listens on all addresses. It is no URL by the URL standard.
        let listener = text.strip_prefix("srt://:").map(|rest| format!("srt://0.0.0.0:{rest}"));
        let text = listener.as_deref().unwrap_or(text);
        // Stream ids begin with "#!::" (SRT Access Control), and SRT's own tools take values as they are typed. In a URL "#" would end
        // the query, and "+" would be a blank.
        let srt = text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("srt://"));
        let typed = text.split_once('?').filter(|_| srt);
        let escaped = typed.map(|(path, query)| format!("{path}?{}", query.replace('#', "%23").replace('+', "%2B")));
        let text = model::url_as_typed(escaped.as_deref().unwrap_or(text));
        // The parser's own error is not shown: it may repeat the text.
        Self::from_url(Url::parse(&text).map_err(|_| Error::Address("it is not an absolute URL"))?)
    }

    fn from_url(url: Url) -> Result<Self, Error> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "srt" => Scheme::Srt,
            // GStreamer's own names for RTSP over TCP and over UDP only.
            "rtsp" | "rtspt" | "rtspu" => Scheme::Rtsp,
            "rtsps" => Scheme::Rtsps,
            other => return Err(Error::Scheme(other.chars().take(20).collect())),
        };
        // Without a host, `Display` would show what stands in its place as a path, and that may be a login.
        if url.host_str().is_none_or(str::is_empty) {
            return Err(Error::Address("it names no host"));
        }
        Ok(Self { url, scheme, outside: false })
    }

    /// Resolves a reference in the document at this address. The login goes along only to the same server.
    ///
    /// # Errors
    /// [`Error::Scheme`], [`Error::Address`].
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let url = self.url.join(reference).map_err(|_| Error::Address("it leads to something that is no URL"))?;
        let to = Self { outside: self.outside, ..Self::from_url(url)? };
        Ok(if to.login().is_none() && to.same_origin(self) { to.with_login_of(self) } else { to })
    }

    /// Whether it may only lead outwards, because of who named it.
    pub fn is_from_outside(&self) -> bool {
        self.outside
    }

    /// This address, now that a server answered there: one on the internet may be anybody's.
    #[must_use]
    pub(crate) fn answered_by(self, peer: std::io::Result<IpAddr>) -> Self {
        let outside = self.outside || peer.map_or(true, guard::is_outside);
        Self { outside, ..self }
    }

    /// The address that a redirect to `reference` leads to.
    ///
    /// # Errors
    /// [`Error::Scheme`], also for a redirect to another protocol; [`Error::Address`].
    pub fn redirected(&self, reference: &str) -> Result<Self, Error> {
        let next = self.join(reference)?;
        let web = |scheme| matches!(scheme, Scheme::Http | Scheme::Https);
        if web(next.scheme) != web(self.scheme) || next.scheme == Scheme::Srt {
            return Err(Error::Scheme("a redirect to another protocol".into()));
        }
        Ok(next)
    }

    /// The host in lower case, without brackets; empty if there is none.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
    }

    /// The port, by default that of the scheme; 0 for SRT without a port.
    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
            Scheme::Srt => 0,
            Scheme::Rtsp => 554,
            Scheme::Rtsps => 322,
        })
    }

    /// Host and port, for people and for HTTP's `Host` header.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Scheme, host and port: what stands before the path.
    pub fn origin(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Srt => "srt",
            Scheme::Rtsp => "rtsp",
            Scheme::Rtsps => "rtsps",
        };
        format!("{scheme}://{}", self.authority())
    }

    /// Path and query.
    pub fn path_and_query(&self) -> String {
        let path = if self.url.path().is_empty() { "/" } else { self.url.path() };
        self.url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    /// User and password, percent-decoded; `None` if there is neither.
    pub fn login(&self) -> Option<(String, String)> {
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let decoded = |text: &str| decode(text);
        (!user.is_empty() || !password.is_empty()).then(|| (decoded(user), decoded(password)))
    }

    /// Names and values of the query, in order.
    pub fn query(&self) -> Vec<(String, String)> {
        self.url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    /// Whether what is sent there is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Rtsps)
    }

    /// Whether scheme, host and port are the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host() == other.host() && self.port() == other.port()
    }

    /// This address with the login of `other`.
    #[must_use]
    pub fn with_login_of(mut self, other: &Self) -> Self {
        // Setting these fails only for a URL without a host, which is never built.
        let _ = self.url.set_username(other.url.username());
        let _ = self.url.set_password(other.url.password());
        self
    }
}

/// Percent-decodes; bytes that are not UTF-8 afterwards are replaced.
fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%').and_then(|c| std::str::from_utf8(c).ok());
        let value = code.and_then(|c| u8::from_str_radix(c, 16).ok());
        out.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.url.scheme(), self.authority(), self.url.path())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_and_query_are_not_shown() {
        let a = Address::parse("https://us%20er:pa%3Ass@Host.example:8443/a/b.mp4?token=t").unwrap();
        assert_eq!(format!("{a} {a:?}"), "https://host.example:8443/a/b.mp4 https://host.example:8443/a/b.mp4");
        assert_eq!(a.login(), Some(("us er".into(), "pa:ss".into())));
        assert_eq!((a.host().as_str(), a.port(), a.authority().as_str()), ("host.example", 8443, "host.example:8443"));
        assert_eq!(
            (a.origin().as_str(), a.path_and_query().as_str()),
            ("https://host.example:8443", "/a/b.mp4?token=t")
        );
        assert_eq!(Address::parse("rtspu://a:b@[::1]:554/x").unwrap().origin(), "rtsp://[::1]:554");
        assert_eq!(Address::parse("http://[::1]/").unwrap().host(), "::1");
    }

    #[test]
    fn logins_arrive_as_pasted() {
        let a = Address::parse("rtsp://admin:a/b#c@d?e@camera.example:8554/live").unwrap();
        assert_eq!(a.login(), Some(("admin".into(), "a/b#c@d?e".into())));
        assert_eq!((a.authority().as_str(), a.path_and_query().as_str()), ("camera.example:8554", "/live"));
    }

    #[test]
    fn srt_queries_arrive_as_typed() {
        let of = |text: &str| Address::parse(text).unwrap().query();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("streamid", "#!::r=live/x,m=request"), pair("passphrase", "a+b c")];
        assert_eq!(of("srt://h:9000?streamid=#!::r=live/x,m=request&passphrase=a+b c"), expected);
        assert_eq!(of("SRT://h:9000?streamid=%23!%3A%3Ar%3Dlive%2Fx,m=request&passphrase=a%2Bb%20c"), expected);
        assert_eq!(of("http://h/?a=b+c#d"), [pair("a", "b c")], "as in any other URL");
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in ["file:///etc/passwd", "ftp://h/a", "gopher://h", "data:,x", "javascript:1", "rtmp://h/a"] {
            assert!(matches!(Address::parse(text), Err(Error::Scheme(_))), "{text}");
        }
        for text in ["", "a.mp4", "/a.mp4", "http://", "http://user@", "srt:user:word@host:9000", "srt:/user:word@host"]
        {
            assert!(matches!(Address::parse(text), Err(Error::Address(_))), "{text}");
        }
        let a = Address::parse("http://h/list.m3u8").unwrap();
        assert!(matches!(a.join("file:///etc/passwd"), Err(Error::Scheme(_))));
        assert_eq!(a.join("b/c.ts?x=1").unwrap().path_and_query(), "/b/c.ts?x=1");
    }

    #[test]
    fn what_comes_from_the_internet_marks_all_that_it_leads_to() {
        let asked = Address::parse("http://media.example/list.m3u8").unwrap();
        let reached = |ip: &str| asked.clone().answered_by(Ok(ip.parse().unwrap()));
        assert!(!reached("10.0.0.1").join("a.ts").unwrap().is_from_outside());
        let (variant, moved) =
            (reached("192.0.2.1").join("v.m3u8"), reached("192.0.2.1").redirected("http://10.0.0.1/"));
        assert!(variant.as_ref().unwrap().is_from_outside() && moved.unwrap().is_from_outside());
        // A private server in between does not take the mark away, and a tunnel's end may be anybody.
        assert!(variant.unwrap().answered_by(Ok("10.0.0.1".parse().unwrap())).join("a.ts").unwrap().is_from_outside());
        assert!(reached("64:ff9b::102:304").is_from_outside());
    }

    #[test]
    fn a_login_goes_to_entries_on_the_same_server() {
        let list = Address::parse("http://u:p@h.example/a/list.m3u8").unwrap();
        let login = |text: &str| list.join(text).unwrap().login().map(|(user, _)| user);
        for same in ["1.ts", "/b/1.ts", "http://h.example/a/1.ts", "//H.example/1.ts", "http://h.example:80/1.ts"] {
            assert_eq!(login(same).as_deref(), Some("u"), "{same}");
        }
        assert_eq!(login("http://other:x@h.example/1.ts").as_deref(), Some("other"));
        for other in
            ["https://h.example/1.ts", "http://h.example:81/1.ts", "http://cdn.example/1.ts", "//cdn.example/1.ts"]
        {
            assert_eq!(login(other), None, "{other}");
        }
    }

    #[test]
    fn a_login_stays_with_its_server() {
        let a = Address::parse("rtsp://u:p@cam.example:8554/live").unwrap();
        let to = |text: &str| a.redirected(text).unwrap().login();
        assert_eq!(to("rtsp://cam.example:8554/other"), Some(("u".into(), "p".into())));
        assert_eq!(to("rtsp://CAM.example:8554/other"), Some(("u".into(), "p".into())));
        for other in ["rtsp://cam.example/live", "rtsp://evil.example:8554/live", "rtsps://cam.example:8554/live"] {
            assert_eq!(to(other), None, "{other}");
        }
        for text in ["http://cam.example:8554/", "srt://cam.example:1", "file:///etc/passwd"] {
            assert!(matches!(a.redirected(text), Err(Error::Scheme(_))), "{text}");
        }
        assert!(Address::parse("srt://:9000?mode=listener").is_ok());
    }
}
