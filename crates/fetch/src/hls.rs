//! Plays one HLS media playlist: its segments as a stream of bytes, with a mark where each segment begins. A live playlist is
//! reloaded as it grows.

use crate::backoff::{Reconnect, Served};
use crate::crypt::decrypt;
use crate::playlist::{self, Key, Map, Master, MediaList, Playlist, Segment, Variant};
use crate::{Address, Client, Error, Response};
use std::time::{Duration, Instant};

/// How many segments before its end a live stream is joined. The newest segment is up to one segment old when its playlist is read,
/// so that joining at three made 3.1 to 3.5 segments of delay, and three are promised. RFC 8216 §6.3.3 advises against fewer than
/// three, for players that must not stall. Here a source that stalls is shown later from then on; and with two, the next segment
/// is there before the last is used up, as the playlist is reloaded twice per segment.
const JOIN_FROM_END: usize = 2;
/// A live stream that is more segments behind has stalled, and is joined again.
const MAX_BEHIND: usize = 6;
/// The longest encrypted segment in bytes; it is decrypted as a whole, in memory.
const MAX_ENCRYPTED: usize = 64 << 20;
/// The longest initialisation section in bytes.
const MAX_MAP: usize = 4 << 20;
/// Bytes handed over at once.
const MAX_PIECE: usize = 64 << 10;
/// Attempts to fetch a segment before it is given up.
const SEGMENT_ATTEMPTS: u32 = 4;
/// The wait before the second attempt at a segment of a stream that is not live; each further wait is one unit longer.
const SEGMENT_RETRY_WAIT: Duration = Duration::from_millis(250);
/// Target durations within which a live playlist has to grow, whatever is configured. Its server has to add to it within one and
/// a half (RFC 8216 §6.2.1).
const STALL_TARGET_DURATIONS: u32 = 3;

/// Variants that are tried at most, where one after the other can't be fetched.
const MAX_CHOICES: usize = 6;

/// What comes next of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A segment begins.
    Segment {
        /// It does not continue the segment before: a new demultiplexer is needed.
        fresh: bool,
        /// Its start on the playlist's timeline, of which zero is where the stream was joined.
        at: Duration,
        /// Its discontinuity sequence number: segments of the same number share one clock, in all renditions of a presentation.
        run: u64,
    },
    /// Bytes of the segment.
    Bytes(Vec<u8>),
}

/// The playlists to play: the best variant that fits, and its audio rendition if that is separate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The variant's media playlist.
    pub main: Address,
    /// The media playlist of its audio.
    pub audio: Option<Address>,
}

/// Chooses from a master playlist. The best comes first: the largest variant within `largest` (pixels), or else the smallest. The
/// others follow, for where its server is down (redundant variants, RFC 8216 §6.2.4): those that fit from large to small, then the
/// rest from small to large.
///
/// # Errors
/// URIs that can't be used; [`Error::Playlist`].
pub fn choose(master: &Master, base: &Address, largest: (u32, u32)) -> Result<Vec<Choice>, Error> {
    let fits = |v: &&Variant| v.size.is_none_or(|(w, h)| w <= largest.0 && h <= largest.1);
    let has_video = master.variants.iter().any(|v| v.size.is_some());
    let of_use = |v: &&Variant| !has_video || v.size.is_some();
    let pixels = |v: &Variant| v.size.map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    let rank = |v: &&Variant| (pixels(v), v.bandwidth);
    let (mut fitting, mut others): (Vec<_>, Vec<_>) = master.variants.iter().filter(of_use).partition(fits);
    // Stable: of equals the first comes first.
    fitting.sort_by_key(|v| std::cmp::Reverse(rank(v)));
    others.sort_by_key(rank);
    let mut choices = Vec::new();
    for chosen in fitting.into_iter().chain(others).take(MAX_CHOICES) {
        let group = master.audio.iter().filter(|r| Some(&r.group) == chosen.audio.as_ref());
        let audio = group.max_by_key(|r| (r.default, r.uri.is_some())).and_then(|r| r.uri.clone());
        let audio = audio.map(|uri| base.join(&uri)).transpose()?;
        choices.push(Choice { main: base.join(&chosen.uri)?, audio });
    }
    if choices.is_empty() { Err(Error::Playlist("it lists nothing to play")) } else { Ok(choices) }
}

/// A media playlist that is being played.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    /// Where the playlist is asked for: a redirect from there may lead to another place each time, or to one that expires.
    asked: Address,
    /// Where it came from, and what its own addresses are relative to.
    address: Address,
    list: MediaList,
    read_at: Instant,
    reconnect: Duration,
    /// Of a live stream: faults since bytes of a segment last came.
    faults: Reconnect,
    /// Of all renditions of the presentation.
    served: Served,
    /// Since when a live playlist has not grown.
    stalled_since: Option<Instant>,
    next: Option<u64>,
    at: Duration,
    fresh: bool,
    /// Added to discontinuity sequence numbers: a server that does not count the discontinuities that left its playlist counts too
    /// few.
    runs: u64,
    current: Option<Current>,
    map: Option<Map>,
    key: Option<(Key, [u8; 16])>,
}

/// A segment that is being fetched.
#[derive(Debug)]
struct Current {
    segment: Segment,
    response: Option<Response>,
    got: u64,
    tries: u32,
    whole: bool,
}

impl Stream {
    /// Plays the playlist `text`, which was `asked` for at one address and came from another, `address`. A live one is tried again for
    /// `reconnect` after a fault.
    ///
    /// # Errors
    /// [`Error::Playlist`].
    pub fn new(
        client: Client,
        asked: Address,
        address: Address,
        text: &[u8],
        reconnect: Duration,
    ) -> Result<Self, Error> {
        let Playlist::Media(list) = playlist::parse(text)? else {
            return Err(Error::Playlist("it lists playlists that list playlists"));
        };
        Ok(Self {
            client,
            asked,
            address,
            list,
            read_at: Instant::now(),
            reconnect,
            faults: Reconnect::new(reconnect),
            served: Served::default(),
            stalled_since: None,
            next: None,
            at: Duration::ZERO,
            fresh: true,
            runs: 0,
            current: None,
            map: None,
            key: None,
        })
    }

    /// Fetches the playlist at `address` and plays it, as [`Stream::new`].
    ///
    /// # Errors
    /// As [`Client::get_small`], and [`Error::Playlist`].
    pub fn open(client: Client, address: &Address, reconnect: Duration) -> Result<Self, Error> {
        let (from, text) = client.get_small(address, None, playlist::MAX_TEXT)?;
        Self::new(client, address.clone(), from, &text, reconnect)
    }

    /// Joins the presentation of `other`: when one of them is served again after a fault, the others do not wait for their own attempt.
    pub fn join(&mut self, other: &Self) {
        self.served = other.served.clone();
    }

    /// Whether it is live: segments will be added.
    pub fn live(&self) -> bool {
        !self.list.ended
    }

    /// Chooses the first segment, `with` if that is in the playlist, and returns the number of the next one once it is known.
    /// A separate audio rendition begins with the number of the video.
    pub fn begin(&mut self, with: Option<u64>) -> Option<u64> {
        let segments = &self.list.segments;
        let from = if self.list.ended { 0 } else { segments.len().saturating_sub(JOIN_FROM_END) };
        let first = segments.get(from).map(|s| s.sequence);
        let known = with.filter(|n| segments.iter().any(|s| s.sequence == *n));
        if self.next.is_none() {
            self.next = known.or(first);
        }
        self.next
    }

    /// Skips segments that end before `from`, in a stream that is not live.
    pub fn skip_to(&mut self, from: Duration) {
        self.begin(None);
        while let Some(segment) = self.segment().filter(|s| self.at + s.duration <= from).cloned() {
            self.at += segment.duration;
            self.next = Some(segment.sequence + 1);
        }
    }

    fn segment(&self) -> Option<&Segment> {
        let next = self.next?;
        self.list.segments.iter().find(|s| s.sequence >= next)
    }

    /// What comes next; `None` at the end of a stream that is not live.
    ///
    /// # Errors
    /// Why it could not be fetched, after some attempts.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            if let Some(current) = self.current.take() {
                match self.go_on(current)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                }
            }
            self.begin(None);
            self.catch_up();
            let Some(segment) = self.segment().cloned() else {
                if self.list.ended {
                    return Ok(None);
                }
                self.reload()?;
                continue;
            };
            // A missing segment has left the live playlist.
            let missed = self.next.is_some_and(|n| segment.sequence > n);
            self.next = Some(segment.sequence + 1);
            self.stalled_since = None;
            if segment.gap {
                self.at += segment.duration;
                self.fresh = true;
                continue;
            }
            let fresh = std::mem::take(&mut self.fresh) || missed || segment.discontinuity;
            let piece = Piece::Segment { fresh, at: self.at, run: segment.run.saturating_add(self.runs) };
            if fresh {
                self.map = None;
            }
            self.at += segment.duration;
            self.current = Some(Current { segment, response: None, got: 0, tries: 0, whole: false });
            return Ok(Some(piece));
        }
    }

    fn go_on(&mut self, mut current: Current) -> Result<Option<Piece>, Error> {
        let fetched = self.fetch(&mut current);
        match fetched {
            Ok(Some(bytes)) => {
                current.tries = 0;
                if self.faults.is_failing() {
                    self.served.announce();
                }
                self.faults.succeeded();
                self.current = Some(current);
                Ok(Some(Piece::Bytes(bytes)))
            }
            Ok(None) => Ok(None),
            Err(e) if self.live() => self.recover(e, Some(current)).map(|()| None),
            Err(e) if e.retry() && current.tries < SEGMENT_ATTEMPTS => {
                current.tries += 1;
                current.response = None;
                std::thread::sleep(SEGMENT_RETRY_WAIT * current.tries);
                self.current = Some(current);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// After a fault of a live stream: waits, and tries the segment again if it is still in the playlist. One that is not, or that
    /// can't be fetched, becomes a gap.
    fn recover(&mut self, fault: Error, hit: Option<Current>) -> Result<(), Error> {
        let missing = matches!(fault, Error::NotFound { .. } | Error::Forbidden { .. } | Error::Status { .. });
        if fault.is_policy() || (hit.is_some() && !missing && !fault.retry()) {
            return Err(fault);
        }
        let Some(wait) = self.faults.failed(Instant::now()) else { return Err(fault) };
        self.served.wait(wait);
        let Some(mut current) = hit else { return Ok(()) };
        current.response = None;
        current.tries += 1;
        // A server that has the playlist but not this segment will not have it later.
        let hopeless = self.read().is_ok() && current.tries >= SEGMENT_ATTEMPTS;
        let same = |s: &Segment| s.sequence == current.segment.sequence && s.uri == current.segment.uri;
        let listed = !self.fresh && self.list.segments.iter().any(same);
        if listed && fault.retry() && !hopeless {
            self.current = Some(current);
        } else {
            self.fresh = true;
        }
        Ok(())
    }

    /// The next bytes of a segment, after those of its initialisation section; `None` at its end.
    fn fetch(&mut self, current: &mut Current) -> Result<Option<Vec<u8>>, Error> {
        if let Some(map) = current.segment.map.clone().filter(|map| self.map.as_ref() != Some(map)) {
            let address = self.address.join(&map.uri)?;
            let (_, bytes) = self.client.get_small(&address, map.range.map(request_range), MAX_MAP)?;
            let mut bytes = match map.range {
                // A server that takes no range requests sends the whole file.
                Some((from, length)) if bytes.len() as u64 > length => cut(bytes, from, length),
                _ => bytes,
            };
            if let Some(key) = &map.key {
                let iv = key.iv.unwrap_or_else(|| u128::from(current.segment.sequence).to_be_bytes());
                decrypt(self.secret(key)?, iv, &mut bytes)?;
            }
            self.map = Some(map);
            return Ok(Some(bytes));
        }
        if let Some(key) = current.segment.key.clone() {
            return if std::mem::replace(&mut current.whole, true) { Ok(None) } else { self.decrypted(current, &key) };
        }
        let (start, length) = current.segment.range.map_or((0, None), |(from, length)| (from, Some(length)));
        if length.is_some_and(|l| current.got >= l) {
            return Ok(None);
        }
        let mut response = match current.response.take() {
            Some(response) => response,
            None => self.request(&current.segment, start + current.got, length.map(|l| start + l - 1))?,
        };
        let most = length.map_or(MAX_PIECE, |l| MAX_PIECE.min(usize::try_from(l - current.got).unwrap_or(MAX_PIECE)));
        let piece = response.next_piece(most)?;
        current.got += piece.as_ref().map_or(0, |p| p.len() as u64);
        current.response = Some(response);
        Ok(piece)
    }

    fn request(&self, segment: &Segment, from: u64, until: Option<u64>) -> Result<Response, Error> {
        let address = self.address.join(&segment.uri)?;
        let range = (from > 0 || until.is_some()).then_some((from, until));
        let mut response = self.client.get(&address, range)?;
        let mut skip = if response.range.is_some_and(|(at, _)| at == from) { 0 } else { from };
        while skip > 0 {
            let Some(piece) = response.next_piece(usize::try_from(skip).unwrap_or(MAX_PIECE).min(MAX_PIECE))? else {
                break;
            };
            skip -= piece.len() as u64;
        }
        Ok(response)
    }

    /// The bytes of a key, fetched once.
    fn secret(&mut self, key: &Key) -> Result<[u8; 16], Error> {
        if let Some((known, secret)) = &self.key
            && known.uri == key.uri
        {
            return Ok(*secret);
        }
        let (_, bytes) = self.client.get_small(&self.address.join(&key.uri)?, None, 1024)?;
        let secret = bytes.try_into().map_err(|_| Error::Playlist("its key does not have 16 bytes"))?;
        self.key = Some((key.clone(), secret));
        Ok(secret)
    }

    fn decrypted(&mut self, current: &Current, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        let secret = self.secret(key)?;
        let address = self.address.join(&current.segment.uri)?;
        let (_, mut bytes) =
            self.client.get_whole(&address, current.segment.range.map(request_range), MAX_ENCRYPTED)?;
        let iv = key.iv.unwrap_or_else(|| u128::from(current.segment.sequence).to_be_bytes());
        decrypt(secret, iv, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Joins a live stream again if it is far ahead of what was fetched.
    fn catch_up(&mut self) {
        if self.list.ended || self.read_at.elapsed() < self.list.target {
            return;
        }
        // A fault is handled when no segment is left.
        let _ = self.read();
        let left = self.next.map(|next| self.list.segments.iter().filter(|s| s.sequence >= next).count());
        if !self.list.ended && left.is_some_and(|left| left > MAX_BEHIND) {
            self.next = None;
            self.begin(None);
            self.fresh = true;
        }
    }

    /// Waits until a live playlist may have grown, and reloads it.
    fn reload(&mut self) -> Result<(), Error> {
        // Half a target duration, as where nothing is new (RFC 8216 §6.3.4): segments may be shorter than that.
        let wait = (self.list.target / 2).clamp(Duration::from_millis(200), Duration::from_secs(10));
        std::thread::sleep(wait.saturating_sub(self.read_at.elapsed()));
        if let Err(fault) = self.read() {
            return self.recover(fault, None);
        }
        if self.segment().is_some() || self.next.is_none() && !self.list.segments.is_empty() {
            return Ok(());
        }
        let stalled = self.stalled_since.get_or_insert_with(Instant::now).elapsed();
        let allowed = self.reconnect.max(self.list.target * STALL_TARGET_DURATIONS);
        if self.live() && stalled >= allowed {
            return Err(Error::Stalled { host: self.address.authority(), after: allowed });
        }
        Ok(())
    }

    /// Reloads the playlist.
    fn read(&mut self) -> Result<(), Error> {
        let answer = self.client.get_small(&self.asked, None, playlist::MAX_TEXT);
        self.read_at = Instant::now();
        let (address, text) = answer?;
        if let Playlist::Media(list) = playlist::parse(&text)? {
            self.address = address;
            self.take(list);
        }
        Ok(())
    }

    /// Takes the playlist as reloaded. A server that restarted counts from the start again; one that we fell behind has dropped the
    /// next segment.
    fn take(&mut self, list: MediaList) {
        let ends = |list: &MediaList| Some((list.segments.first()?.sequence, list.segments.last()?.sequence));
        let Some((first, last)) = ends(&list) else {
            self.list = list;
            return;
        };
        let (old_first, old_last) = ends(&self.list).unwrap_or((first, last));
        // A cache may answer with an older version.
        let earlier = !self.faults.is_failing() && last + 1 == old_last && first + 1 >= old_first;
        if earlier {
            return;
        }
        let restarted = first < old_first || last < old_last;
        // The discontinuity sequence number of the first segment, before and now.
        let same = |s: &Segment| self.list.segments.iter().find(|old| old.sequence == s.sequence);
        let known = list.segments.first().and_then(|new| Some((same(new)?.run, new.run))).filter(|_| !restarted);
        if let Some((old, new)) = known {
            self.runs = self.runs.saturating_add(old).saturating_sub(new);
        }
        self.list = list;
        if self.next.is_some_and(|next| restarted || next > last.saturating_add(1) || next < first) {
            self.next = None;
            self.fresh = true;
        }
    }
}

/// Offset and length as first and last byte, the form of a request.
fn request_range((from, length): (u64, u64)) -> (u64, Option<u64>) {
    (from, Some(from.saturating_add(length).saturating_sub(1)))
}

fn cut(bytes: Vec<u8>, from: u64, length: u64) -> Vec<u8> {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let until = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(bytes.len());
    bytes[from..until].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(uri: &str, size: Option<(u32, u32)>, bandwidth: u64) -> Variant {
        Variant { uri: uri.into(), size, bandwidth, ..Variant::default() }
    }

    #[test]
    fn the_best_variant_that_fits_is_chosen() {
        let base = Address::parse("http://h/m.m3u8").unwrap();
        let master = |variants: Vec<Variant>| Master { variants, audio: Vec::new() };
        let of =
            |variants: Vec<Variant>| choose(&master(variants), &base, (1280, 720)).unwrap()[0].main.path_and_query();
        let all = vec![
            variant("low", Some((320, 180)), 1),
            variant("hd", Some((1280, 720)), 3),
            variant("hd-better", Some((1280, 720)), 4),
            variant("full", Some((1920, 1080)), 9),
            variant("sound", None, 10),
        ];
        assert_eq!(of(all.clone()), "/hd-better");
        assert_eq!(of(vec![all[3].clone(), variant("uhd", Some((3840, 2160)), 1)]), "/full");
        assert_eq!(of(vec![variant("a", None, 1), variant("b", None, 2)]), "/b");
    }
}
