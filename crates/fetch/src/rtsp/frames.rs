//! Where one message of RTSP ends and the next begins (RFC 2326 §4), with the packets between them (§10.12). Used by
//! [`Talk`](super::Talk) for either direction.

use std::borrow::Cow;

/// Bytes of a message's head: one of RTSP has a few hundred, and a description stands behind the head.
pub(super) const HEAD: usize = 32 << 10;

/// What is found in a stream.
pub(super) enum Piece<'a> {
    /// A message's head, whole, with the empty line.
    Head(Vec<u8>),
    /// A part of the body of the head before.
    Body(&'a [u8]),
    /// A part of a packet, or an end of line too many.
    Other(Cow<'a, [u8]>),
}

/// Cuts what one side says.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A message's head, or a packet's, as far as it has come.
    head: Vec<u8>,
    /// Bytes of a body that are still to come.
    body: usize,
    /// Bytes of a packet that are still to come.
    packet: usize,
}

impl Frames {
    /// Takes the next piece off the front of `bytes`; `None` if they hold no further one.
    ///
    /// # Errors
    /// What is no RTSP.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, &'static str> {
        while let Some(&byte) = bytes.first() {
            if self.body > 0 {
                return Ok(Some(Piece::Body(take(&mut self.body, bytes))));
            }
            if self.packet > 0 {
                return Ok(Some(Piece::Other(take(&mut self.packet, bytes).into())));
            }
            *bytes = &bytes[1..];
            self.head.push(byte);
            match self.head[..] {
                // Between messages; some servers end bodies with one more line than they count.
                [b'\r' | b'\n'] => return Ok(Some(Piece::Other(std::mem::take(&mut self.head).into()))),
                [b'$', _, high, low] => {
                    self.packet = usize::from(u16::from_be_bytes([high, low]));
                    return Ok(Some(Piece::Other(std::mem::take(&mut self.head).into())));
                }
                [b'$', ..] => {}
                _ if byte == b'\n' && ends(&self.head) => {
                    let head = std::mem::take(&mut self.head);
                    if let Some(length) = value(&head, "content-length") {
                        self.body = length.parse::<u32>().map_err(|_| "its length is no number")? as usize;
                    }
                    return Ok(Some(Piece::Head(head)));
                }
                _ if self.head.len() == HEAD => return Err("a message has no end"),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn take<'a>(left: &mut usize, bytes: &mut &'a [u8]) -> &'a [u8] {
    let (now, after) = bytes.split_at((*left).min(bytes.len()));
    (*left, *bytes) = (*left - now.len(), after);
    now
}

/// Whether a head ends here: with an empty line.
fn ends(head: &[u8]) -> bool {
    head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")
}

/// The value of the first header of this name (lower case).
pub(super) fn value(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().skip(1).find_map(|line| field(line, name).map(str::to_owned))
}

/// The value of a header line of this name (lower case).
pub(super) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}
