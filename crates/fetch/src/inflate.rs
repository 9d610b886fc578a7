//! Bodies that come compressed though that was not asked for: gzip and deflate (RFC 9110 §8.4.1).

use flate2::write::{GzDecoder, ZlibDecoder};
use std::io::Write;

/// Bytes that are inflated at once: their output is looked at after each of these steps.
const STEP: usize = 1 << 10;
/// The most that one piece of a body may become. Playlists shrink to a twentieth; a thousandth is the format's limit, and an attack.
const MAX_OUTPUT: usize = 8 << 20;

/// Inflates a body piece by piece.
#[derive(Debug)]
pub(crate) enum Inflate {
    Gzip(GzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
}

impl Inflate {
    /// For a content encoding, in lower case; `None` if it is not known.
    pub(crate) fn of(encoding: &str) -> Option<Self> {
        match encoding {
            "gzip" | "x-gzip" => Some(Self::Gzip(GzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::Zlib(ZlibDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    /// Takes the next piece; gives what has come out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, &'static str> {
        for step in piece.chunks(STEP) {
            let written = match self {
                Self::Gzip(decoder) => decoder.write_all(step).and_then(|()| decoder.flush()),
                Self::Zlib(decoder) => decoder.write_all(step).and_then(|()| decoder.flush()),
            };
            written.map_err(|_| "what it sends compressed does not decompress")?;
            if self.output().len() > MAX_OUTPUT {
                return Err("what it sends compressed grows too much");
            }
        }
        Ok(std::mem::take(self.output()))
    }

    /// Whether all has come.
    ///
    /// # Errors
    /// If something is missing.
    pub(crate) fn finish(mut self) -> Result<(), &'static str> {
        let finished = match &mut self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
        };
        finished.map_err(|_| "what it sends compressed does not decompress")
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    fn packed(text: &[u8]) -> [(&'static str, Vec<u8>); 2] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(text).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(text).unwrap();
        [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())]
    }

    #[test]
    fn bodies_inflate_however_they_are_cut() {
        let text = b"#EXTM3U\n#EXTINF:4,\na.ts\n".repeat(100);
        for (encoding, bytes) in packed(&text) {
            for cut in [1, 7, 10_000] {
                let mut inflate = Inflate::of(encoding).unwrap();
                let out: Vec<u8> = bytes.chunks(cut).flat_map(|piece| inflate.push(piece).unwrap()).collect();
                assert_eq!(out, text, "{encoding} {cut}");
                assert_eq!(inflate.finish(), Ok(()));
            }
            let mut inflate = Inflate::of(encoding).unwrap();
            inflate.push(&bytes[..bytes.len() - 1]).unwrap();
            assert!(inflate.finish().is_err(), "{encoding}: the end is missing");
        }
        assert!(Inflate::of("br").is_none());
    }

    #[test]
    fn a_bomb_is_an_error() {
        for (encoding, bytes) in packed(&vec![0; 64 << 20]) {
            let mut inflate = Inflate::of(encoding).unwrap();
            assert!(inflate.push(&bytes).unwrap_err().contains("grows too much"));
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ["gzip", "deflate"] {
                let _ = Inflate::of(encoding).unwrap().push(&noise);
            }
        }
    }
}
