//! Plays one HLS media playlist: its segments as a stream of bytes, with a mark where each segment begins. A live playlist is
//! reloaded as it grows. What does not come is tried again, had from another playlist of the same presentation, or left out.

mod background;
mod choice;
mod fetcher;
mod sources;
pub mod window;

pub use choice::{Choice, choose};

use crate::backoff::{RETRY_WAITS, Reconnect, Served};
use crate::playlist::{self, Context, MediaList, Playlist, Variables};
use crate::{Address, Client, Error};
use background::{Background, Fetched};
use fetcher::{Current, Fetcher};
use sources::Sources;
use std::time::{Duration, Instant};
use window::{Upcoming, Window};

/// Attempts to fetch a segment of a live stream before it is given up.
const SEGMENT_ATTEMPTS: u32 = 4;
/// Attempts to fetch a live playlist before another one is looked for.
const PLAYLIST_ATTEMPTS: u32 = 2;
/// Segments in a row that may be left out of a stream that is not live, before it is given up.
const MAX_MISSING: u32 = 3;
/// The newest segments of a live playlist may be listed before they can be had: so many of them, and the wait between attempts.
const LATE_SEGMENTS: usize = 2;
const LATE_WAIT: Duration = Duration::from_millis(250);
/// Target durations within which a live playlist has to grow, whatever is configured. Its server has to add to it within one and
/// a half (RFC 8216 §6.2.1).
const STALL_TARGET_DURATIONS: u32 = 3;

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
    /// The segment, or what was left of it, can't be had, for this reason: the stream goes on without.
    LeftOut(String),
}

/// A presentation that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its variant.
    pub main: Stream,
    /// Its audio, if that is separate.
    pub audio: Option<Stream>,
    /// Why its separate audio can't be opened.
    pub without_audio: Option<Error>,
}

/// Opens the best choice that can be; the others may stand in for it later. A live one is tried again for `reconnect` after a fault.
///
/// # Errors
/// The fault of the best, if none can be opened.
pub fn open(client: &Client, choices: &[Choice], variables: &Variables, reconnect: Duration) -> Result<Opened, Error> {
    let stream = |all: Vec<Address>| -> Result<Stream, Error> {
        let mut first = None;
        for at in 0..all.len() {
            let fetched = client.get_small(&all[at], None, playlist::MAX_TEXT);
            let opened = fetched.and_then(|(from, text)| {
                let sources = Sources::new(all.clone(), at, Instant::now());
                Stream::with(client.clone(), sources, from, &text, variables.clone(), reconnect)
            });
            match opened {
                Ok(stream) => return Ok(stream),
                Err(e) if e.is_policy() => return Err(first.unwrap_or(e)),
                Err(e) => {
                    eprintln!("a playlist of the stream can't be opened: {e}");
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or(Error::Playlist("it lists nothing to play")))
    };
    // One without separate audio can't stand in where that is played beside it, but the other way round.
    let separate = choices.first().is_some_and(|c| c.audio.is_some());
    let mains = distinct(choices.iter().filter(|c| separate || c.audio.is_none()).map(|c| &c.main));
    let main = stream(mains)?;
    let audios = distinct(choices.iter().filter(|_| separate).filter_map(|c| c.audio.as_ref()));
    let (mut audio, mut without_audio) = (None, None);
    if !audios.is_empty() {
        match stream(audios) {
            Ok(mut opened) => {
                opened.served = main.served.clone();
                audio = Some(opened);
            }
            Err(e) if e.is_policy() => return Err(e),
            Err(e) => without_audio = Some(e),
        }
    }
    Ok(Opened { main, audio, without_audio })
}

fn distinct<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<Address> {
    let mut all: Vec<Address> = Vec::new();
    for address in addresses {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

/// A media playlist that is being played.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    fetcher: Fetcher,
    sources: Sources,
    /// Of the master playlist.
    variables: Variables,
    /// Where the playlist came from, and what its own addresses are relative to.
    address: Address,
    window: Window,
    read_at: Instant,
    reconnect: Duration,
    /// Of a live stream: faults since bytes of a segment last came.
    faults: Reconnect,
    /// Of all renditions of the presentation.
    served: Served,
    /// Since when a live playlist has not grown.
    stalled_since: Option<Instant>,
    /// Faults of the playlist since it last came.
    unread: u32,
    /// Segments in a row that were left out.
    missing: u32,
    /// Whether anything has come.
    came: bool,
    current: Option<Current>,
    /// Why a segment was left out, until that is said.
    left_out: Option<String>,
    /// The playlist that is being reloaded while there are segments left.
    reading: Option<Background>,
    /// The preferred playlist, where another one is played.
    returning: Option<Background>,
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
        let sources = Sources::new(vec![asked], 0, Instant::now());
        Self::with(client, sources, address, text, Variables::default(), reconnect)
    }

    fn with(
        client: Client,
        sources: Sources,
        address: Address,
        text: &[u8],
        variables: Variables,
        reconnect: Duration,
    ) -> Result<Self, Error> {
        let list = media(text, sources.current(), &variables)?;
        Ok(Self {
            fetcher: Fetcher::new(client.clone()),
            client,
            sources,
            variables,
            address,
            window: Window::new(list),
            read_at: Instant::now(),
            reconnect,
            faults: Reconnect::new(reconnect),
            served: Served::default(),
            stalled_since: None,
            unread: 0,
            missing: 0,
            came: false,
            current: None,
            left_out: None,
            reading: None,
            returning: None,
        })
    }

    /// Whether it is live: segments will be added.
    pub fn live(&self) -> bool {
        self.window.live()
    }

    /// See [`Window::begin`]. A separate audio rendition of a live stream begins with the number of the video.
    pub fn begin(&mut self, with: Option<u64>) -> Option<u64> {
        self.window.begin(with)
    }

    /// Skips segments that end before `from`, in a stream that is not live.
    pub fn skip_to(&mut self, from: Duration) {
        self.window.skip_to(from);
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
            if let Some(why) = self.left_out.take() {
                return Ok(Some(Piece::LeftOut(why)));
            }
            self.go_back();
            self.catch_up();
            let Some(upcoming) = self.window.next_segment() else {
                if !self.live() {
                    return Ok(None);
                }
                self.reload()?;
                continue;
            };
            self.stalled_since = None;
            let Upcoming { fresh, at, run, .. } = upcoming;
            if fresh {
                self.fetcher.begin_afresh();
            }
            self.current = Some(Current::new(upcoming));
            return Ok(Some(Piece::Segment { fresh, at, run }));
        }
    }

    fn go_on(&mut self, mut current: Current) -> Result<Option<Piece>, Error> {
        let live = self.live();
        match self.fetcher.next_bytes(&mut current, &self.address, live) {
            Ok(Some(bytes)) => {
                current.tries = 0;
                if self.faults.is_failing() {
                    self.served.announce();
                }
                self.faults.succeeded();
                self.sources.came();
                (self.missing, self.came) = (0, true);
                self.current = Some(current);
                Ok(Some(Piece::Bytes(bytes)))
            }
            Ok(None) => Ok(None),
            Err(e) if e.is_policy() => Err(e),
            Err(e) if live => self.recover_segment(e, current).map(|()| None),
            Err(e) => self.try_again(e, current).map(|()| None),
        }
    }

    /// After a fault of a stream that is not live: tries the segment again, has it from elsewhere, or leaves it out.
    fn try_again(&mut self, fault: Error, mut current: Current) -> Result<(), Error> {
        if fault.may_pass()
            && let Some(wait) = RETRY_WAITS.get(current.tries as usize)
        {
            current.tries += 1;
            std::thread::sleep(*wait);
            self.current = Some(current);
            return Ok(());
        }
        if self.switch(current.position()) {
            return Ok(());
        }
        self.missing += 1;
        let last = !self.window.has_next() && !self.came;
        if !fault.is_of_one_file() || self.missing >= MAX_MISSING || last {
            return Err(fault);
        }
        self.leave_out(&fault);
        Ok(())
    }

    /// After a fault of a live stream: waits, and tries the segment again if it is still in the playlist. One that is not, or that
    /// can't be fetched, is had from elsewhere or left out.
    fn recover_segment(&mut self, fault: Error, mut current: Current) -> Result<(), Error> {
        let (now, again) = (Instant::now(), self.faults.is_failing());
        let Some(mut wait) = self.faults.failed(now) else { return Err(fault) };
        let since = *current.since.get_or_insert(now);
        let newest = self.window.listed(current.number()).is_some_and(|(_, after)| after < LATE_SEGMENTS);
        let not_yet = matches!(fault, Error::NotFound { .. } | Error::Forbidden { .. });
        let late = newest && not_yet && now.saturating_duration_since(since) < self.window.target();
        if late {
            wait = wait.min(LATE_WAIT);
        } else {
            current.tries += 1;
        }
        // What takes too long now is behind when it comes.
        let may_come = late || (fault.may_pass() && !matches!(fault, Error::Slow { .. }));
        if self.unread == 0 {
            // The server is there, and its stream goes on.
            wait = wait.min(self.window.target() / 2);
        }
        if may_come || again {
            self.served.wait(wait);
        }
        let read = self.read().is_ok();
        let Some(segment) = self.window.listed(current.number()).map(|(segment, _)| segment.clone()) else {
            // It has left the playlist, or the server has restarted.
            self.window.lost();
            return Ok(());
        };
        let attempts = if read { SEGMENT_ATTEMPTS } else { PLAYLIST_ATTEMPTS };
        let used_up = current.tries >= attempts;
        if used_up && self.switch(current.position()) {
            return Ok(());
        }
        // A server that has the playlist but not this segment will not have it later; one that has neither may.
        let may_come = may_come || segment.uri != current.upcoming.segment.uri;
        if may_come && !(used_up && read) && current.follow(segment, &self.address) {
            self.current = Some(current);
        } else if !self.switch(current.position()) {
            self.leave_out(&fault);
        }
        Ok(())
    }

    fn leave_out(&mut self, fault: &Error) {
        self.left_out = Some(fault.to_string());
        self.window.lost();
    }

    /// After a fault of a live playlist: waits, or has it from elsewhere.
    fn recover_playlist(&mut self, fault: Error) -> Result<(), Error> {
        let wait = self.faults.failed(Instant::now()).filter(|_| !fault.is_policy());
        let Some(wait) = wait else { return Err(fault) };
        let gone = matches!(fault, Error::NotFound { .. } | Error::Forbidden { .. });
        if (gone || self.unread >= PLAYLIST_ATTEMPTS) && self.switch(self.window.at()) {
            return Ok(());
        }
        self.served.wait(wait);
        Ok(())
    }

    /// Goes on with another playlist of the presentation; false if none is of use.
    fn switch(&mut self, at: Duration) -> bool {
        while let Some((index, address)) = self.sources.another() {
            let fetched = self.client.get_small(&address, None, playlist::MAX_TEXT);
            if self.go_to(index, &address, fetched, at) {
                return true;
            }
        }
        false
    }

    fn go_to(&mut self, index: usize, asked: &Address, fetched: Fetched, at: Duration) -> bool {
        let read = fetched.and_then(|(from, text)| Ok((from, media(&text, asked, &self.variables)?)));
        let (from, list) = match read {
            Ok(read) => read,
            Err(e) => {
                eprintln!("another playlist of the stream can't be opened: {e}");
                return false;
            }
        };
        let newest = Window::new(list.clone()).last();
        let of_use = if self.live() { list.ended || self.sources.is_new(index, newest.as_ref()) } else { list.ended };
        if !of_use || list.segments.is_empty() {
            return false;
        }
        eprintln!("the stream goes on with the playlist {from}");
        self.sources.go_to(index, self.window.last(), Instant::now());
        self.window.replace(list, at);
        (self.address, self.read_at) = (from, Instant::now());
        self.fetcher = Fetcher::new(self.client.clone());
        (self.reading, self.returning) = (None, None);
        (self.stalled_since, self.unread) = (None, 0);
        true
    }

    /// Goes back to the preferred playlist once it is there again.
    fn go_back(&mut self) {
        if let Some(address) = self.sources.return_due(Instant::now()) {
            self.returning = Background::start(&self.client, &address);
        }
        if let Some(fetched) = self.returning.as_ref().and_then(Background::done) {
            self.returning = None;
            let address = self.sources.preferred().clone();
            self.go_to(0, &address, fetched, self.window.at());
        }
    }

    /// Reloads a live playlist beside the segments that are left, and joins it again if it is far ahead of what was fetched.
    fn catch_up(&mut self) {
        if !self.live() {
            return;
        }
        if let Some(fetched) = self.reading.as_ref().and_then(Background::done) {
            self.reading = None;
            // A fault is handled when no segment is left.
            let _ = self.take(fetched);
            self.window.catch_up();
        }
        if self.reading.is_none() && self.read_at.elapsed() >= self.window.target() {
            self.reading = Background::start(&self.client, self.sources.current());
        }
    }

    /// Waits until a live playlist may have grown, and reloads it.
    fn reload(&mut self) -> Result<(), Error> {
        // Half a target duration, as where nothing is new (RFC 8216 §6.3.4): segments may be shorter than that.
        let wait = (self.window.target() / 2).clamp(Duration::from_millis(200), Duration::from_secs(10));
        std::thread::sleep(wait.saturating_sub(self.read_at.elapsed()));
        if let Err(fault) = self.read() {
            return self.recover_playlist(fault);
        }
        if self.window.has_next() {
            return Ok(());
        }
        let stalled = self.stalled_since.get_or_insert_with(Instant::now).elapsed();
        let least = self.window.target() * STALL_TARGET_DURATIONS;
        if !self.live() || stalled < least || self.switch(self.window.at()) {
            return Ok(());
        }
        let allowed = self.reconnect.max(least);
        if stalled >= allowed {
            return Err(Error::Stalled { host: self.address.authority(), after: allowed });
        }
        Ok(())
    }

    /// Reloads the playlist.
    fn read(&mut self) -> Result<(), Error> {
        let fetched = match self.reading.take() {
            Some(reading) => reading.wait(),
            None => self.client.get_small(self.sources.current(), None, playlist::MAX_TEXT),
        };
        self.take(fetched)
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), Error> {
        self.read_at = Instant::now();
        let asked = self.sources.current();
        let read = fetched.and_then(|(from, text)| Ok((from, media(&text, asked, &self.variables)?)));
        self.unread = if read.is_ok() { 0 } else { self.unread + 1 };
        let (from, list) = read?;
        self.address = from;
        self.window.take(list, self.faults.is_failing());
        Ok(())
    }
}

/// Parses the media playlist that was `asked` for.
fn media(text: &[u8], asked: &Address, variables: &Variables) -> Result<MediaList, Error> {
    let context = Context { query: asked.query(), imported: variables.clone() };
    match playlist::parse_in(text, &context)? {
        Playlist::Media(list) => Ok(list),
        Playlist::Master(_) => Err(Error::Playlist("it lists playlists that list playlists")),
    }
}

#[cfg(test)]
mod tests;
