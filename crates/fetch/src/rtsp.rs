//! Rewrites RTSP (RFC 2326) between a client that knows only our relay and the server behind it. Requests get the server's own
//! name and the login it asks for; redirects are taken out, for us to follow; packets over UDP come from the server itself. Session
//! descriptions are completed, and sessions kept alive.
//! Without IO; used by [`Relay`](crate::Relay).

mod description;
mod frames;
mod keep_alive;
mod token;

pub use crate::login::Login;
pub use token::Token;

use frames::{Frames, Piece, field, value};
use keep_alive::KeepAlive;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// The longest session description in bytes that is completed; longer ones pass as they are. Real ones have 2 kB at most.
const MAX_DESCRIPTION: usize = 64 << 10;
/// Open requests. Clients wait for one answer before they send the next request.
const MAX_OPEN: usize = 16;

/// What bytes from the server lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Bytes for the client.
    pub client: Vec<u8>,
    /// Bytes for the server: requests again, with the login.
    pub server: Vec<u8>,
    /// Where the server redirects us to; the connection is to be closed then.
    pub redirect: Option<String>,
}

/// Rewrites one connection in both directions.
#[derive(Debug)]
pub struct Rewriter {
    server: IpAddr,
    /// The server's URL prefix as the client knows it, and its own.
    names: (String, String),
    login: Option<Login>,
    token: Option<Token>,
    requests: Frames,
    answers: Frames,
    open: VecDeque<Request>,
    /// The number of the client's newest request.
    last: u32,
    /// Requests of ours, and such that were sent again: the server's count is ahead of the client's by this many.
    resent: u32,
    /// Whether the body of an answer that the client does not see is coming.
    dropping: bool,
    /// A session description that is coming.
    description: Option<Description>,
    keep_alive: KeepAlive,
    /// Whether what is described ends by itself.
    ends: bool,
}

/// A session description, until all of it has come.
#[derive(Debug)]
struct Description {
    /// The head for the client.
    head: Vec<u8>,
    body: Vec<u8>,
    length: usize,
}

impl Description {
    /// The whole answer.
    fn write(&self, out: &mut Vec<u8>) {
        let body = description::completed(&String::from_utf8_lossy(&self.body));
        for line in String::from_utf8_lossy(&self.head).lines() {
            let line = match field(line, "content-length") {
                Some(_) => format!("Content-Length: {}", body.len()),
                None => line.to_owned(),
            };
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(body.as_bytes());
    }
}

/// A request without an answer yet.
#[derive(Debug)]
struct Request {
    method: String,
    uri: String,
    version: String,
    /// Its header lines, except CSeq.
    lines: Vec<String>,
    /// Its CSeq to the client and to the server.
    number: (u32, u32),
    /// How often it was sent again.
    resent: u32,
    /// Whether it has a body, which is not kept: it can't be sent again.
    body: bool,
    /// Whether it is ours: the client does not see its answer.
    own: bool,
}

impl Request {
    /// Parses a request head; `None` for anything else.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (method, rest) = lines.next()?.split_once(' ')?;
        let (uri, version) = rest.trim().rsplit_once(' ')?;
        if !version.starts_with("RTSP/") || method.starts_with("RTSP/") {
            return None;
        }
        let number = lines.clone().find_map(|line| field(line, "cseq"))?.parse().ok()?;
        let body = lines.clone().any(|line| field(line, "content-length").is_some_and(|l| l != "0"));
        let made = |line: &&str| !line.is_empty() && field(line, "cseq").is_none();
        Some(Self {
            method: method.to_owned(),
            uri: uri.trim().to_owned(),
            version: version.to_owned(),
            lines: lines.filter(made).map(str::to_owned).collect(),
            number: (number, number),
            resent: 0,
            body,
            own: false,
        })
    }

    fn write(&self, login: Option<&mut Login>, out: &mut Vec<u8>) {
        let mut text = format!("{} {} {}\r\nCSeq: {}\r\n", self.method, self.uri, self.version, self.number.1);
        if let Some(said) = login.and_then(|l| l.authorization(&self.method, &self.uri)) {
            text += &format!("Authorization: {said}\r\n");
        }
        for line in &self.lines {
            text += line;
            text += "\r\n";
        }
        text += "\r\n";
        out.extend_from_slice(text.as_bytes());
    }
}

impl Rewriter {
    /// For the server at this address. `names` are URL prefixes (`rtsp://host:port`): the one that the client uses, and the server's
    /// own.
    pub fn new(server: IpAddr, names: (String, String), login: Option<Login>) -> Self {
        let (requests, answers) = (Frames::default(), Frames::default());
        let (open, resent, dropping, description) = (VecDeque::new(), 0, false, None);
        let (keep_alive, ends, last) = (KeepAlive::default(), false, 0);
        Self {
            server,
            names,
            login,
            token: None,
            requests,
            answers,
            open,
            last,
            resent,
            dropping,
            description,
            keep_alive,
            ends,
        }
    }

    /// Takes this out of the client's requests.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// How often to send [`Rewriter::keep_alive`]; `None` while nothing plays.
    pub fn keep_alive_every(&self) -> Option<Duration> {
        self.keep_alive.every()
    }

    /// A request that keeps the session alive, for the server; nothing while nothing plays. The client does not see its answer.
    pub fn keep_alive(&mut self) -> Vec<u8> {
        let Some((method, uri, session)) = self.keep_alive.request() else { return Vec::new() };
        self.resent = self.resent.wrapping_add(1);
        let number = self.last.wrapping_add(self.resent);
        let request = Request {
            method: method.to_owned(),
            uri: uri.to_owned(),
            version: "RTSP/1.0".to_owned(),
            lines: vec![format!("Session: {session}")],
            number: (self.last, number),
            resent: 0,
            body: false,
            own: true,
        };
        let mut out = Vec::new();
        self.send(request, &mut out);
        out
    }

    /// Whether what plays ends by itself, as a recording does, by its description.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// Writes a request for the server, whose answer is waited for.
    fn send(&mut self, request: Request, out: &mut Vec<u8>) {
        request.write(self.login.as_mut(), out);
        if self.open.len() == MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back(request);
    }

    /// Takes bytes from the client; returns bytes for the server.
    ///
    /// # Errors
    /// Why this is no RTSP.
    pub fn from_client(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        while let Some(piece) = self.requests.next(&mut bytes)? {
            match piece {
                Piece::Body(bytes) => out.extend_from_slice(bytes),
                Piece::Other(bytes) => out.extend_from_slice(&bytes),
                Piece::Head(head) => match Request::read(&String::from_utf8_lossy(&head)) {
                    Some(request) => self.request(request, &mut out),
                    None => out.extend_from_slice(&head),
                },
            }
        }
        Ok(out)
    }

    /// Writes a request of the client's for the server.
    fn request(&mut self, mut request: Request, out: &mut Vec<u8>) {
        let (here, there) = &self.names;
        let after = |rest: &&str| rest.is_empty() || rest.starts_with(['/', '?']);
        if let Some(rest) = request.uri.strip_prefix(here.as_str()).filter(after) {
            request.uri = format!("{there}{rest}");
        }
        if let Some(token) = &self.token {
            request.lines = request.lines.into_iter().map(|line| token.removed(line)).collect();
        }
        request.number.1 = request.number.0.wrapping_add(self.resent);
        self.last = request.number.0;
        self.keep_alive.asked(&request.method, &request.uri);
        self.send(request, out);
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// Why this is no RTSP.
    pub fn from_server(&mut self, mut bytes: &[u8]) -> Result<Answer, &'static str> {
        let mut answer = Answer::default();
        while let Some(piece) = self.answers.next(&mut bytes)? {
            match piece {
                Piece::Body(_) if self.dropping => {}
                Piece::Body(bytes) if self.description.is_some() => {
                    let complete = self.description.as_mut().is_some_and(|description| {
                        description.body.extend_from_slice(bytes);
                        description.body.len() >= description.length
                    });
                    if let Some(description) = self.description.take_if(|_| complete) {
                        self.ends = description::ends(&String::from_utf8_lossy(&description.body));
                        description.write(&mut answer.client);
                    }
                }
                Piece::Body(bytes) => answer.client.extend_from_slice(bytes),
                Piece::Other(bytes) => answer.client.extend_from_slice(&bytes),
                Piece::Head(head) => {
                    self.dropping = false;
                    self.answer(&head, &mut answer);
                    if answer.redirect.is_some() {
                        return Ok(answer);
                    }
                }
            }
        }
        Ok(answer)
    }

    fn answer(&mut self, head: &[u8], answer: &mut Answer) {
        let text = String::from_utf8_lossy(head);
        let first = text.lines().next().unwrap_or_default();
        let status = first.strip_prefix("RTSP/").and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u16>().ok());
        let Some(status) = status else { return answer.client.extend_from_slice(head) };
        if (300..400).contains(&status)
            && let Some(to) = value(head, "location")
        {
            answer.redirect = Some(to);
            return;
        }
        let asked = (status >= 200).then(|| self.asked(value(head, "cseq"))).flatten();
        let number = asked.as_ref().map(|r| r.number);
        if let Some(asked) = &asked {
            self.keep_alive.answered(&asked.method, status, head);
        }
        let asked_ours = asked.as_ref().is_some_and(|request| request.own);
        if status == 401
            && let Some(asked) = asked
            && self.resend(asked, &text, &mut answer.server)
        {
            self.dropping = true;
            return;
        }
        if asked_ours {
            self.dropping = true;
            return;
        }
        let length = value(head, "content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
        let described =
            value(head, "content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/sdp"));
        if described && (1..=MAX_DESCRIPTION).contains(&length) {
            let mut head_to_client = Vec::new();
            self.pass(head, &text, number, &mut head_to_client);
            self.description = Some(Description { head: head_to_client, body: Vec::new(), length });
            return;
        }
        self.pass(head, &text, number, &mut answer.client);
    }

    /// The request that an answer with this number is for. Some cameras leave the number out, or miscount: answers come in the order of
    /// their requests (RFC 2326 §12.17 does not ask for more than one at a time).
    fn asked(&mut self, number: Option<String>) -> Option<Request> {
        let number = number.and_then(|n| n.trim().parse::<u32>().ok());
        let known = self.open.iter().position(|request| Some(request.number.1) == number);
        known.or_else(|| (!self.open.is_empty()).then_some(0)).and_then(|at| self.open.remove(at))
    }

    /// Sends a request again with the login that the server asks for. False if that does not help.
    fn resend(&mut self, mut asked: Request, text: &str, out: &mut Vec<u8>) -> bool {
        let Some(login) = self.login.as_mut().filter(|_| !asked.body) else { return false };
        let challenges = text.lines().filter_map(|line| field(line, "www-authenticate"));
        let Some(stale) = login.challenged(challenges) else { return false };
        // Once; and a second time if its nonce has become stale meanwhile.
        if asked.resent > u32::from(stale) {
            return false;
        }
        self.resent = self.resent.wrapping_add(1);
        asked.number.1 = asked.number.0.wrapping_add(self.resent);
        asked.resent += 1;
        asked.write(Some(login), out);
        self.open.push_back(asked);
        true
    }

    /// Writes an answer for the client, with the client's CSeq and the server's address as the source of packets. A base of the
    /// description's addresses that is no URL is left out: the request's own counts then (RFC 2326 §C.1.1).
    fn pass(&self, head: &[u8], text: &str, number: Option<(u32, u32)>, out: &mut Vec<u8>) {
        let said = value(head, "cseq");
        let recounted = number.filter(|(client, _)| said != Some(client.to_string()));
        let no_base =
            ["content-base", "content-location"].iter().any(|name| value(head, name).is_some_and(|b| !is_base(&b)));
        if recounted.is_none() && value(head, "transport").is_none() && !no_base {
            return out.extend_from_slice(head);
        }
        for (i, line) in text.lines().enumerate() {
            let counts = recounted.is_some() && field(line, "cseq").is_some();
            let base = field(line, "content-base").or_else(|| field(line, "content-location"));
            if i > 0 && (counts || base.is_some_and(|base| !is_base(base))) {
                continue;
            }
            match field(line, "transport") {
                Some(value) if i > 0 => out.extend_from_slice(self.transport(value).as_bytes()),
                _ => out.extend_from_slice(line.as_bytes()),
            }
            out.extend_from_slice(b"\r\n");
            if let Some((client, _)) = recounted.filter(|_| i == 0) {
                out.extend_from_slice(format!("CSeq: {client}\r\n").as_bytes());
            }
        }
    }

    /// A Transport header in which packets over UDP come from the server and go to it, whatever the server says: it must not
    /// make us send reports to others.
    fn transport(&self, value: &str) -> String {
        let kept = |part: &&str| {
            let name = part.trim().split('=').next().unwrap_or_default().to_ascii_lowercase();
            !matches!(name.as_str(), "source" | "destination")
        };
        let parts: Vec<&str> = value.split(';').filter(kept).collect();
        format!("Transport: {};source={}", parts.join(";"), self.server)
    }
}

/// Whether addresses of a description can be resolved against this.
fn is_base(text: &str) -> bool {
    let host = url::Url::parse(text.trim()).ok().filter(|url| url.scheme().starts_with("rtsp"));
    // "rtsp://rtsp://camera/" has a host by that name.
    host.as_ref().and_then(|url| url.host_str()).is_some_and(|host| !host.is_empty() && host != "rtsp")
}

#[cfg(test)]
mod tests;
