//! HTTP body framing: by length, chunked (RFC 9112 §7.1), or until the connection closes. Without IO.

/// How the end of a body is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes are left.
    Length(u64),
    /// Chunked transfer coding.
    Chunked(Chunks),
    /// The body ends when the connection closes.
    UntilClose,
}

/// The longest chunk header line in bytes: a size in hexadecimal, and extensions, which nobody uses.
const MAX_LINE: usize = 1024;
/// The longest trailer section in bytes.
const MAX_TRAILER: usize = 8192;

/// Decodes a chunked body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    line: Vec<u8>,
    trailer: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    AfterData,
    Trailer,
    End,
}

impl Chunks {
    /// Whether the last chunk has been read.
    pub fn ended(&self) -> bool {
        self.state == State::End
    }

    /// Takes bytes as they came. Returns how many were used, and the range of data among those. Uses at least one byte, except
    /// at the end of the body.
    ///
    /// # Errors
    /// Why this is no chunked body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, std::ops::Range<usize>), &'static str> {
        let mut used = 0;
        while used < bytes.len() {
            match self.state {
                State::End => break,
                State::Data(left) => {
                    let n = left.min((bytes.len() - used) as u64);
                    self.state = if left == n { State::AfterData } else { State::Data(left - n) };
                    // The cast holds: `n` is at most the length of `bytes`.
                    let data = used..used + n as usize;
                    return Ok((data.end, data));
                }
                _ => {
                    let byte = bytes[used];
                    used += 1;
                    if byte != b'\n' {
                        self.line.push(byte);
                        if self.line.len() > MAX_LINE {
                            return Err("a chunk's size is too long");
                        }
                        continue;
                    }
                    self.line_ended()?;
                }
            }
        }
        Ok((used, used..used))
    }

    fn line_ended(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.state = match self.state {
            State::Size => match size(line).ok_or("a chunk has no size")? {
                0 => State::Trailer,
                n => State::Data(n),
            },
            State::AfterData if line.is_empty() => State::Size,
            State::AfterData => return Err("a chunk is longer than it says"),
            State::Trailer if line.is_empty() => State::End,
            State::Trailer => {
                self.trailer += line.len();
                if self.trailer > MAX_TRAILER {
                    return Err("its trailer is too long");
                }
                State::Trailer
            }
            state => state,
        };
        Ok(())
    }
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        for mut piece in bytes.chunks(cut) {
            while !piece.is_empty() && !chunks.ended() {
                let (used, data) = chunks.take(piece)?;
                out.extend_from_slice(&piece[data]);
                piece = &piece[used..];
            }
        }
        Ok((out, chunks.ended()))
    }

    proptest! {
        #[test]
        fn chunks_decode_wherever_they_are_cut(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), cut in 1usize..50) {
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend(format!("{:x};ext=1\r\n", part.len()).into_bytes());
                bytes.extend(part);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nTrailer: x\r\n\r\n");
            prop_assert_eq!(decode(&bytes, cut), Ok((parts.concat(), true)));
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..50) {
            let _ = decode(&noise, cut);
        }
    }

    #[test]
    fn malformed_chunks_are_errors() {
        for bad in [&b"zz\r\n"[..], b"\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"1\r\nab\r\n"] {
            assert!(decode(bad, 3).is_err(), "{bad:?}");
        }
        assert!(decode(&[b'1'; 2000], 100).is_err());
    }
}
