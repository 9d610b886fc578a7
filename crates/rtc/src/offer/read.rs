//! Reads SDP (RFC 8866): the attributes of the session and of each media line. Judges nothing but the form.

use crate::Refusal;
use std::net::IpAddr;

/// Bytes of an offer at most. Browsers with all their codecs write 10 kB.
pub const MAX_OFFER: usize = 64 << 10;
/// Media lines at most; two can be used.
const MAX_SECTIONS: usize = 32;
/// Candidates that are kept; a client with ten addresses, both protocols and both families has fewer.
pub(super) const MAX_CANDIDATES: usize = 64;
/// The longest ICE credential (RFC 8839 §5.4).
const MAX_CREDENTIAL: usize = 256;

/// An SDP by its parts; borrows from its text.
#[derive(Debug)]
pub(super) struct Sdp<'a> {
    pub(super) session: Attributes<'a>,
    pub(super) media: Vec<Media<'a>>,
}

/// A media line.
#[derive(Debug)]
pub(super) struct Media<'a> {
    pub(super) kind: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    pub(super) attributes: Attributes<'a>,
}

/// Attribute lines, without their `a=`.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a>(Vec<&'a str>);

impl<'a> Attributes<'a> {
    /// The values of all attributes of that name; empty for those without value.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.0.iter().filter_map(move |line| match line.split_once(':') {
            Some((n, value)) if n == name => Some(value.trim()),
            None if *line == name => Some(""),
            _ => None,
        })
    }

    pub(super) fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The value for a payload type, of `a=name:PT value`.
    pub(super) fn of_format(&self, name: &str, format: &str) -> Option<&'a str> {
        self.all(name).find_map(|v| v.split_once(' ').filter(|(pt, _)| *pt == format).map(|(_, value)| value.trim()))
    }
}

impl<'a> Sdp<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        let unreadable = |why: &str| Refusal::Unreadable(why.to_owned());
        if text.len() > MAX_OFFER {
            return Err(unreadable("it is too long"));
        }
        let mut lines = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
        if lines.next() != Some("v=0") {
            return Err(unreadable("it does not begin with v=0"));
        }
        let mut sdp = Self { session: Attributes::default(), media: Vec::new() };
        for line in lines {
            let Some((kind, value)) = line.split_once('=').filter(|(k, _)| k.len() == 1) else {
                return Err(unreadable("a line is not of the form x=value"));
            };
            match kind {
                "m" if sdp.media.len() == MAX_SECTIONS => return Err(unreadable("it has too many media lines")),
                "m" => sdp.media.push(media(value).ok_or_else(|| unreadable("a media line is damaged"))?),
                "a" => sdp.media.last_mut().map_or(&mut sdp.session, |m| &mut m.attributes).0.push(value),
                _ => {}
            }
        }
        if sdp.media.is_empty() {
            return Err(unreadable("it has no media line"));
        }
        Ok(sdp)
    }
}

/// RFC 8866 §5.14.
fn media(value: &str) -> Option<Media<'_>> {
    let mut words = value.split_ascii_whitespace();
    let (kind, port, protocol) = (words.next()?, words.next()?, words.next()?);
    let port = port.split('/').next()?.parse().ok()?;
    Some(Media { kind, port, protocol, formats: words.collect(), attributes: Attributes::default() })
}

/// Whether these are ICE credentials (RFC 8839 §5.4).
pub(crate) fn credentials(ufrag: &str, pwd: &str) -> bool {
    let ice = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'='));
    (4..=MAX_CREDENTIAL).contains(&ufrag.len()) && (22..=MAX_CREDENTIAL).contains(&pwd.len()) && ice(ufrag) && ice(pwd)
}

/// A `candidate:` line (RFC 8839 §5.1) that leads somewhere: mDNS names and other components are of no use to us.
pub(crate) fn candidate(value: &str) -> Option<String> {
    let words: Vec<_> = value.split_ascii_whitespace().collect();
    let &[_, component, transport, _, address, port, typ, _, ..] = words.as_slice() else { return None };
    let tcp = transport.eq_ignore_ascii_case("tcp");
    if component != "1" || typ != "typ" || !(tcp || transport.eq_ignore_ascii_case("udp")) {
        return None;
    }
    let (address, port) = (address.parse::<IpAddr>().ok()?, port.parse::<u16>().ok()?);
    // An active TCP candidate has no port to connect to (RFC 6544 §4.5): that side connects to us.
    if tcp || port == 0 || address.is_unspecified() || address.is_multicast() {
        return None;
    }
    let text = format!("candidate:{}", value.trim());
    // The engine's own judgement, so that it never fails on what we hand it.
    str0m::Candidate::from_sdp_string(&text).ok().map(|c| c.to_sdp_string().trim_start_matches("a=").trim().to_owned())
}

/// The usable candidates among these values, at most [`MAX_CANDIDATES`].
pub(crate) fn candidates<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    values.filter_map(candidate).take(MAX_CANDIDATES).collect()
}
