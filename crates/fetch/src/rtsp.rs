//! What an RTSP server says, as much as a guard has to understand: where one message ends and the next begins (RFC 2326 §4 and
//! §10.12), where a redirect leads, and from where packets will come. Without IO.

use std::net::IpAddr;

/// Bytes of a message's head: an answer of RTSP has a few hundred, and its description stands behind the head.
const HEAD: usize = 32 << 10;

/// Passes on what a server says, but for redirects and for the addresses that it names itself.
#[derive(Clone, Debug)]
pub struct Answers {
    server: IpAddr,
    /// A message's head, or a packet's, as far as it has come.
    head: Vec<u8>,
    /// Bytes of a body or packet that are still to come.
    left: usize,
}

impl Answers {
    /// Those of the server at this address.
    pub fn of(server: IpAddr) -> Self {
        Self { server, head: Vec::new(), left: 0 }
    }

    /// Takes bytes as they came, and adds to `out` what is to be passed on. Gives where the server sends us instead of answering;
    /// nothing more is to be taken from it then.
    ///
    /// # Errors
    /// What is no RTSP.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<String>, &'static str> {
        while let Some(&byte) = bytes.first() {
            if self.left > 0 {
                let (now, after) = bytes.split_at(self.left.min(bytes.len()));
                out.extend_from_slice(now);
                self.left -= now.len();
                bytes = after;
                continue;
            }
            bytes = &bytes[1..];
            self.head.push(byte);
            match self.head[..] {
                // Between messages; some servers end bodies with one more line than they count.
                [b'\r' | b'\n'] => out.append(&mut self.head),
                [b'$', _, high, low] => {
                    self.left = usize::from(u16::from_be_bytes([high, low]));
                    out.append(&mut self.head);
                }
                [b'$', ..] => {}
                _ if byte == b'\n' && ends(&self.head) => {
                    let head = std::mem::take(&mut self.head);
                    if let Some(to) = self.message(&head, out)? {
                        return Ok(Some(to));
                    }
                }
                _ if self.head.len() == HEAD => return Err("a message has no end"),
                _ => {}
            }
        }
        Ok(None)
    }

    fn message(&mut self, head: &[u8], out: &mut Vec<u8>) -> Result<Option<String>, &'static str> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("RTSP/").and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u16>().ok());
        if status.is_some_and(|s| (300..400).contains(&s))
            && let Some(to) = lines.clone().find_map(|line| field(line, "location"))
        {
            return Ok(Some(to.to_owned()));
        }
        if let Some(length) = lines.clone().find_map(|line| field(line, "content-length")) {
            self.left = length.parse::<u32>().map_err(|_| "its length is no number")? as usize;
        }
        if !lines.clone().any(|line| field(line, "transport").is_some()) {
            out.extend_from_slice(head);
            return Ok(None);
        }
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(b"\r\n");
        for line in lines {
            match field(line, "transport") {
                Some(value) => out.extend_from_slice(self.transport(value).as_bytes()),
                None => out.extend_from_slice(line.as_bytes()),
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(None)
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

/// Whether a head ends here: with an empty line.
fn ends(head: &[u8]) -> bool {
    head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")
}

/// The value of a header line of this name (lower case).
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers() -> Answers {
        Answers::of("192.0.2.7".parse().unwrap())
    }

    /// What is passed on of bytes that come in pieces of this size.
    fn pass(bytes: &[u8], cut: usize) -> (Vec<u8>, Result<Option<String>, &'static str>) {
        let (mut answers, mut out) = (answers(), Vec::new());
        for piece in bytes.chunks(cut) {
            match answers.push(piece, &mut out) {
                Ok(None) => {}
                end => return (out, end),
            }
        }
        (out, Ok(None))
    }

    #[test]
    fn a_redirect_is_not_passed_on() {
        let ok = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nv=0\r\n".to_vec();
        let moved = b"RTSP/1.0 302 Moved\r\nCSeq: 2\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n";
        for cut in 1..40 {
            let (out, end) = pass(&[&ok[..], moved, b"more"].concat(), cut);
            assert_eq!((out, end), (ok.clone(), Ok(Some("rtsp://10.0.0.1/x".into()))));
        }
        // What only looks like one.
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: 63\r\n\r\nRTSP/1.0 302 Moved\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n0123456789ab";
        let packet = [&b"$\0\0\x33"[..], b"RTSP/1.0 302 Moved\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n"].concat();
        for bytes in [&body[..], &packet] {
            assert_eq!(pass(bytes, 7), (bytes.to_vec(), Ok(None)));
        }
    }

    #[test]
    fn packets_come_from_the_server_itself() {
        let said = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;source=10.0.0.5;client_port=5000-5001;server_port=53-54\r\nSession: 1\r\n\r\n";
        let passed = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=53-54;source=192.0.2.7\r\nSession: 1\r\n\r\n";
        assert_eq!(pass(said.as_bytes(), 11), (passed.into(), Ok(None)));
    }

    #[test]
    fn what_never_ends_is_no_rtsp() {
        assert!(pass(&vec![b'x'; HEAD + 1], 1000).1.is_err());
        assert!(pass(b"RTSP/1.0 200 OK\nContent-Length: many\n\n", 1000).1.is_err());
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(noise in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..50) {
            prop_assert_eq!(pass(&noise, cut), pass(&noise, noise.len().max(1)));
        }

        #[test]
        fn packets_pass_as_they_are(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), cut in 1usize..50) {
            let frame = |p: &Vec<u8>| [&[b'$', 1][..], &(p.len() as u16).to_be_bytes(), p].concat();
            let bytes: Vec<u8> = packets.iter().flat_map(frame).collect();
            prop_assert_eq!(pass(&bytes, cut), (bytes, Ok(None)));
        }
    }
}
