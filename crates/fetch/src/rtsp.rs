//! What passes between an RTSP client that knows nothing but our relay and the server behind it, as far as the two must not see it
//! unchanged (RFC 2326): the server is asked by its own name, and is told the login it asks for; a redirect is followed by us,
//! and packets come from the server itself. Without IO; [`Relay`](crate::Relay) uses it.

mod frames;
mod login;

pub use login::Login;

use frames::{Frames, Piece, field, value};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Requests that are open at a time; clients wait for one answer before they ask the next.
const OPEN: usize = 16;

/// What a server's bytes lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What is to be passed on to the client.
    pub client: Vec<u8>,
    /// What is to be sent to the server: requests once more, with the login.
    pub server: Vec<u8>,
    /// Where the server sends us instead of answering; nothing more is to be taken from it then.
    pub moved: Option<String>,
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Talk {
    server: IpAddr,
    /// What the client calls the server, and what it is called.
    names: (String, String),
    login: Option<Login>,
    asks: Frames,
    answers: Frames,
    open: VecDeque<Request>,
    /// Requests that were sent once more: the server's count of them is ahead of the client's by so many.
    again: u32,
    /// The body of an answer that is not passed on is under way.
    dropping: bool,
}

/// A request that is not yet answered.
#[derive(Debug)]
struct Request {
    method: String,
    uri: String,
    version: String,
    /// Its headers, but for those that are made anew.
    lines: Vec<String>,
    /// Its number (CSeq), to the client and to the server.
    number: (u32, u32),
    /// How often it was sent once more.
    again: u32,
    /// Whether it has a body, which is not kept.
    body: bool,
}

impl Request {
    /// `None` for what is no request.
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
            again: 0,
            body,
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

impl Talk {
    /// With the server at this address; `names` are the beginnings of URLs (`rtsp://host:port`) as the client knows them and as the
    /// server does.
    pub fn new(server: IpAddr, names: (String, String), login: Option<Login>) -> Self {
        let (asks, answers) = (Frames::default(), Frames::default());
        Self { server, names, login, asks, answers, open: VecDeque::new(), again: 0, dropping: false }
    }

    /// Takes bytes of the client's; gives what is to be passed on.
    ///
    /// # Errors
    /// What is no RTSP.
    pub fn asks(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        while let Some(piece) = self.asks.next(&mut bytes)? {
            match piece {
                Piece::Body(bytes) => out.extend_from_slice(bytes),
                Piece::Other(bytes) => out.extend_from_slice(&bytes),
                Piece::Head(head) => match Request::read(&String::from_utf8_lossy(&head)) {
                    Some(request) => self.ask(request, &mut out),
                    None => out.extend_from_slice(&head),
                },
            }
        }
        Ok(out)
    }

    fn ask(&mut self, mut request: Request, out: &mut Vec<u8>) {
        let (here, there) = &self.names;
        let after = |rest: &&str| rest.is_empty() || rest.starts_with(['/', '?']);
        if let Some(rest) = request.uri.strip_prefix(here.as_str()).filter(after) {
            request.uri = format!("{there}{rest}");
        }
        request.number.1 = request.number.0.wrapping_add(self.again);
        request.write(self.login.as_mut(), out);
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back(request);
    }

    /// Takes bytes of the server's.
    ///
    /// # Errors
    /// What is no RTSP.
    pub fn answers(&mut self, mut bytes: &[u8]) -> Result<Answer, &'static str> {
        let mut answer = Answer::default();
        while let Some(piece) = self.answers.next(&mut bytes)? {
            match piece {
                Piece::Body(_) if self.dropping => {}
                Piece::Body(bytes) => answer.client.extend_from_slice(bytes),
                Piece::Other(bytes) => answer.client.extend_from_slice(&bytes),
                Piece::Head(head) => {
                    self.dropping = false;
                    self.answer(&head, &mut answer);
                    if answer.moved.is_some() {
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
            answer.moved = Some(to);
            return;
        }
        let number = value(head, "cseq").and_then(|n| n.parse::<u32>().ok());
        let asked = self.open.iter().position(|r| Some(r.number.1) == number).filter(|_| status >= 200);
        let asked = asked.and_then(|i| self.open.remove(i));
        let number = asked.as_ref().map(|r| r.number);
        if status == 401
            && let Some(asked) = asked
            && self.once_more(asked, &text, &mut answer.server)
        {
            self.dropping = true;
            return;
        }
        self.pass(head, &text, number, &mut answer.client);
    }

    /// Sends a request with the login that is asked for. False if that does not help.
    fn once_more(&mut self, mut asked: Request, text: &str, out: &mut Vec<u8>) -> bool {
        let Some(login) = self.login.as_mut().filter(|_| !asked.body) else { return false };
        let challenges = text.lines().filter_map(|line| field(line, "www-authenticate"));
        let Some(stale) = login.challenged(challenges) else { return false };
        // Once as a rule; and if the nonce it was sent with has become too old in between.
        if asked.again > u32::from(stale) {
            return false;
        }
        self.again = self.again.wrapping_add(1);
        asked.number.1 = asked.number.0.wrapping_add(self.again);
        asked.again += 1;
        asked.write(Some(login), out);
        self.open.push_back(asked);
        true
    }

    /// Passes an answer on, with the client's number of the request and the server's own address.
    fn pass(&self, head: &[u8], text: &str, number: Option<(u32, u32)>, out: &mut Vec<u8>) {
        let counted = number.filter(|(client, server)| client != server);
        if counted.is_none() && value(head, "transport").is_none() {
            return out.extend_from_slice(head);
        }
        for (i, line) in text.lines().enumerate() {
            match (field(line, "transport"), counted.zip(field(line, "cseq"))) {
                _ if i == 0 => out.extend_from_slice(line.as_bytes()),
                (Some(value), _) => out.extend_from_slice(self.transport(value).as_bytes()),
                (_, Some(((client, _), _))) => out.extend_from_slice(format!("CSeq: {client}").as_bytes()),
                _ => out.extend_from_slice(line.as_bytes()),
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Packets over UDP come from the server and go to it, whatever it says: reports are not to be sent to others for it.
    fn transport(&self, value: &str) -> String {
        let kept = |part: &&str| {
            let name = part.trim().split('=').next().unwrap_or_default().to_ascii_lowercase();
            !matches!(name.as_str(), "source" | "destination")
        };
        let parts: Vec<&str> = value.split(';').filter(kept).collect();
        format!("Transport: {};source={}", parts.join(";"), self.server)
    }
}

#[cfg(test)]
mod tests;
