//! Fetches segments: initialisation section, key and bytes.

use super::window::Upcoming;
use crate::crypt::decrypt;
use crate::part::Part;
use crate::playlist::{Key, Map, Segment};
use crate::{Address, Client, Error};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest encrypted segment in bytes; it is decrypted as a whole, in memory.
const MAX_ENCRYPTED: usize = 64 << 20;
/// The longest initialisation section in bytes.
const MAX_MAP: usize = 4 << 20;
/// The longest key in bytes: all have 16.
const MAX_KEY: usize = 1024;
/// Durations of a live segment within which it has to come: what takes longer is not caught up with.
const SEGMENT_DURATIONS: u32 = 3;

/// A segment that is being fetched.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) upcoming: Upcoming,
    part: Option<Part>,
    /// Its initialisation section, which comes before its first bytes.
    map: Option<Vec<u8>>,
    pub(super) tries: u32,
    /// When it could first not be had.
    pub(super) since: Option<Instant>,
    /// All of it has come.
    whole: bool,
}

impl Current {
    pub(super) fn new(upcoming: Upcoming) -> Self {
        Self { upcoming, part: None, map: None, tries: 0, since: None, whole: false }
    }

    pub(super) fn number(&self) -> u64 {
        self.upcoming.segment.sequence
    }

    /// Where another variant has to go on: what came of it is not to come again.
    pub(super) fn position(&self) -> Duration {
        let begun = self.part.as_ref().is_some_and(Part::has_begun) && self.upcoming.segment.key.is_none();
        self.upcoming.at + if begun { self.upcoming.segment.duration } else { Duration::ZERO }
    }

    /// Goes on with the segment as it is listed now; false if what came of it is no part of that.
    pub(super) fn follow(&mut self, segment: Segment, base: &Address) -> bool {
        let same_range = segment.range == self.upcoming.segment.range;
        let begun = self.part.as_ref().is_some_and(Part::has_begun);
        match base.join(&segment.uri) {
            Ok(address) if same_range => self.part.iter_mut().for_each(|part| part.move_to(address.clone())),
            _ if begun => return false,
            _ => self.part = None,
        }
        self.upcoming.segment = segment;
        true
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    /// The initialisation section that was handed over last.
    map: Option<Arc<Map>>,
    /// The key that was fetched last.
    key: Option<(Arc<Key>, [u8; 16])>,
}

impl Fetcher {
    pub(super) fn new(client: Client) -> Self {
        Self { client, map: None, key: None }
    }

    /// What comes next needs its initialisation section again.
    pub(super) fn begin_afresh(&mut self) {
        self.map = None;
    }

    /// The next bytes of a segment, after those of its initialisation section; `None` at its end. Addresses are relative to `base`. After
    /// an error it may be called again, and goes on where it was.
    ///
    /// # Errors
    /// Why they do not come.
    pub(super) fn next_bytes(
        &mut self,
        current: &mut Current,
        base: &Address,
        live: bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        if current.whole {
            return Ok(None);
        }
        let new_map = current.upcoming.segment.map.clone().filter(|map| self.map.as_ref() != Some(map));
        if let Some(map) = new_map.as_ref().filter(|_| current.map.is_none()) {
            current.map = Some(self.initialisation(map, base, current.number())?);
        }
        let piece = match current.upcoming.segment.key.clone() {
            Some(key) => {
                let secret = self.secret(&key, base)?;
                let all = self.part(current, base, live)?.all(&self.client, MAX_ENCRYPTED);
                // It is decrypted as a whole: after an error it is fetched from its beginning.
                current.part = None;
                let mut bytes = all?;
                decrypt(secret, key.iv.unwrap_or_else(|| iv_of(current.number())), &mut bytes)?;
                current.whole = true;
                Some(bytes)
            }
            None => {
                let part = self.part(current, base, live)?;
                let (begun, host) = (part.has_begun(), part.address().authority());
                let piece = part.next_piece(&self.client)?;
                if !begun && piece.as_deref().is_some_and(is_page) {
                    current.part = None;
                    return Err(Error::Page(host));
                }
                piece
            }
        };
        if let Some(map) = new_map {
            self.map = Some(map);
        }
        Ok(match (current.map.take(), piece) {
            (Some(map), piece) => Some([map, piece.unwrap_or_default()].concat()),
            (None, piece) => piece,
        })
    }

    /// The segment as a part of a file.
    fn part<'a>(&self, current: &'a mut Current, base: &Address, live: bool) -> Result<&'a mut Part, Error> {
        let segment = &current.upcoming.segment;
        if current.part.is_none() {
            let part = Part::new(base.join(&segment.uri)?, segment.range);
            let most = (segment.duration * SEGMENT_DURATIONS).max(self.client.small_file_timeout());
            current.part = Some(if live { part.within(most) } else { part });
        }
        current.part.as_mut().ok_or(Error::Playlist("a segment has no address"))
    }

    /// The bytes of an initialisation section, decrypted; `number` is that of its segment.
    fn initialisation(&mut self, map: &Map, base: &Address, number: u64) -> Result<Vec<u8>, Error> {
        let part = Part::new(base.join(&map.uri)?, map.range);
        let mut bytes = part.within(self.client.small_file_timeout()).all(&self.client, MAX_MAP)?;
        if let Some(key) = &map.key {
            decrypt(self.secret(key, base)?, key.iv.unwrap_or_else(|| iv_of(number)), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The bytes of a key, fetched once.
    fn secret(&mut self, key: &Arc<Key>, base: &Address) -> Result<[u8; 16], Error> {
        if let Some((known, secret)) = &self.key
            && known.uri == key.uri
        {
            return Ok(*secret);
        }
        let (_, bytes) = self.client.get_small(&base.join(&key.uri)?, None, MAX_KEY)?;
        let secret = bytes.try_into().map_err(|_| Error::Playlist("its key does not have 16 bytes"))?;
        self.key = Some((key.clone(), secret));
        Ok(secret)
    }
}

/// The initialisation vector where the key has none (RFC 8216 §5.2).
fn iv_of(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

/// Whether a segment begins like HTML, XML or JSON, as no media does: an error page with a status of success.
fn is_page(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'<' | b'{'))
}
