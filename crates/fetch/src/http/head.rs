//! The head of a response (RFC 9112 §4, §5) as servers write it: what browsers, curl and FFmpeg take is taken. Pure.

use super::version::Version;

/// Header lines of a response. Real ones have below 30.
const MAX_HEADERS: usize = 100;

/// What is used of a response head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// How the body is compressed, in lower case.
    pub(super) encoding: Option<String>,
    pub(super) keep: bool,
    pub(super) location: Option<String>,
    pub(super) content_type: String,
    pub(super) range: Option<(u64, Option<u64>)>,
    pub(super) version: Version,
    pub(super) radio: bool,
    pub(super) titles: Option<usize>,
    /// Values of `Set-Cookie`.
    pub(super) cookies: Vec<String>,
    /// Values of `WWW-Authenticate`.
    pub(super) challenges: Vec<String>,
}

impl Head {
    /// The head and its length in bytes; `None` until it is complete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        // Old Icecast servers answer "ICY 200 OK" to what looks like a player.
        let icy = bytes.starts_with(b"ICY ");
        let patched = if icy { [b"HTTP/1.0 ", &bytes[4..]].concat() } else { Vec::new() };
        let bytes = if icy { &patched } else { bytes };
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let used = match parser().parse_response(&mut response, bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err("its answer has too many headers"),
            Err(_) => return Err("its answer is no HTTP"),
        };
        let (status, keep) = (response.code.unwrap_or(0), response.version == Some(1));
        let mut head = Self { status, keep, radio: icy, ..Self::default() };
        for header in response.headers.iter() {
            let value = String::from_utf8_lossy(header.value);
            head.take(&header.name.to_ascii_lowercase(), value.trim())?;
        }
        Ok(Some((head, if icy { used - 5 } else { used })))
    }

    /// Takes the names of encodings. Those that are no compression ("aws-chunked", "utf-8") change nothing in the body.
    fn encode(&mut self, value: &str, transfer: bool) {
        for name in value.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            match name.as_str() {
                "chunked" => self.chunked |= transfer,
                "gzip" | "x-gzip" | "deflate" | "br" | "zstd" | "compress" | "x-compress" => self.encoding = Some(name),
                _ => {}
            }
        }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "content-length" => {
                // One that is no number ("-1") says nothing; the body ends with the connection then.
                let lengths: Vec<u64> = value.split(',').filter_map(|v| v.trim().parse().ok()).collect();
                for length in lengths {
                    if self.length.is_some_and(|before| before != length) {
                        return Err("it names two lengths");
                    }
                    self.length = Some(length);
                }
            }
            "transfer-encoding" => self.encode(value, true),
            "content-encoding" => self.encode(value, false),
            "connection" => self.keep = if value.eq_ignore_ascii_case("close") { false } else { self.keep },
            "location" => self.location = Some(value.to_owned()),
            "content-type" => {
                self.content_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            }
            "content-range" => self.range = content_range(value),
            "icy-metaint" => self.titles = value.parse().ok(),
            _ if name.starts_with("icy-") => self.radio = true,
            "server" if value.to_ascii_lowercase().starts_with("icecast") => self.radio = true,
            "etag" => self.version.etag = Some(value.to_owned()),
            "last-modified" => self.version.modified = Some(value.to_owned()),
            "set-cookie" => self.cookies.push(value.to_owned()),
            "www-authenticate" => self.challenges.push(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// Takes what servers really send: blanks before a colon, lines that are no header, folded lines.
fn parser() -> httparse::ParserConfig {
    let mut parser = httparse::ParserConfig::default();
    parser
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    parser
}

/// Reads `bytes 0-99/1000` (RFC 9110 §14.4): the first byte, and the whole length.
pub(super) fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = value.strip_prefix("bytes")?.trim().split_once('/')?;
    let (from, until) = range.split_once('-')?;
    let (from, until) = (from.trim().parse().ok()?, until.trim().parse::<u64>().ok()?);
    let whole = whole.trim().parse::<u64>().ok();
    (from <= until && whole.is_none_or(|w| until < w)).then_some((from, whole))
}
