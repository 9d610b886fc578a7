//! Cuts an RTSP stream into messages (RFC 2326 §4) and the packets interleaved between them (§10.12). Used by
//! [`Rewriter`](super::Rewriter) for each direction.

use std::borrow::Cow;

/// The highest channel of interleaved packets (RFC 2326 §10.12): two for each stream, and no camera has more than some.
const MAX_CHANNEL: u8 = 31;

/// The longest first word of a message in bytes: the longest method has 13.
const MAX_WORD: usize = 24;

/// The longest message head in bytes. Real ones have a few hundred: a session description is in the body.
pub(super) const MAX_HEAD: usize = 32 << 10;

/// A part of a stream.
pub(super) enum Piece<'a> {
    /// A whole message head, with the empty line.
    Head(Vec<u8>),
    /// A part of the body that belongs to the head before.
    Body(&'a [u8]),
    /// A part of an interleaved packet, or a surplus line end.
    Other(Cow<'a, [u8]>),
}

/// Cuts one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a message head or a packet header.
    head: Vec<u8>,
    /// The first line of `head` is whole and names RTSP: what follows is a head's, whatever it is.
    named: bool,
    /// Bytes of the current body still to come.
    body: usize,
    /// Bytes of the current packet still to come.
    packet: usize,
    /// A message or a packet has come: this is RTSP. What never speaks it is for the client to find fault with.
    speaks: bool,
}

impl Frames {
    /// What came was no message: one may begin with this byte.
    fn begin_at(&mut self, byte: u8) {
        self.head.clear();
        self.named = false;
        if byte == b'$' || byte.is_ascii_uppercase() {
            self.head.push(byte);
        }
    }

    /// Whether `head` may still be that of a message, by this byte at its end: it begins with a short word, and its first line names RTSP. Each
    /// byte is looked at for itself: a line may be long.
    fn is_message(&mut self, newest: u8) -> bool {
        let head = &self.head[..];
        // The word, and the blank behind it.
        if head.len() <= MAX_WORD + 1 && !self.named {
            let word = head.split(|byte| matches!(byte, b' ' | b'\n')).next().unwrap_or_default();
            if !is_word(word) {
                return false;
            }
        }
        match newest {
            _ if self.named => true,
            b'\n' => {
                self.named = head.windows(5).any(|five| five == b"RTSP/");
                self.named
            }
            _ => newest.is_ascii_graphic() || b" \t\r".contains(&newest) || newest >= 0x80,
        }
    }

    /// Takes the next piece off the front of `bytes`; `None` if they end before one.
    ///
    /// # Errors
    /// Why this is no RTSP.
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
            let fits = !self.speaks || self.is_message(byte);
            match self.head[..] {
                // A line end between messages: some servers end a body with one that Content-Length does not count.
                [b'\r' | b'\n'] => return Ok(Some(Piece::Other(std::mem::take(&mut self.head).into()))),
                // Some cameras leave bytes between packets that belong to none: the next packet or message is looked for.
                [b'$', channel] if self.speaks && channel > MAX_CHANNEL => self.begin_at(channel),
                [b'$', _, high, low] => {
                    self.packet = usize::from(u16::from_be_bytes([high, low]));
                    self.speaks = true;
                    return Ok(Some(Piece::Other(std::mem::take(&mut self.head).into())));
                }
                [b'$', ..] => {}
                _ if !fits => self.begin_at(byte),
                _ if byte == b'\n' && ends(&self.head) => {
                    let head = std::mem::take(&mut self.head);
                    self.named = false;
                    if let Some(length) = value(&head, "content-length") {
                        self.body = length.parse::<u32>().map_err(|_| "its length is not a number")? as usize;
                    }
                    self.speaks = true;
                    return Ok(Some(Piece::Head(head)));
                }
                _ if self.head.len() == MAX_HEAD => return Err("a message has no end"),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Whether a message may begin with this word: a method or a version.
fn is_word(word: &[u8]) -> bool {
    let of_word = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"/._-".contains(byte);
    word.len() <= MAX_WORD && word.iter().all(of_word) && word.first().is_some_and(u8::is_ascii_uppercase)
}

fn take<'a>(left: &mut usize, bytes: &mut &'a [u8]) -> &'a [u8] {
    let (now, after) = bytes.split_at((*left).min(bytes.len()));
    (*left, *bytes) = (*left - now.len(), after);
    now
}

/// Whether a head is complete: it ends with an empty line.
fn ends(head: &[u8]) -> bool {
    head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")
}

/// The value of the first header with this name (lower case).
pub(super) fn value(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().skip(1).find_map(|line| field(line, name).map(str::to_owned))
}

/// The value of a header line, if it has this name (lower case).
pub(super) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}
