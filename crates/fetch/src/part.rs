//! One file of a stream, or a part of it: a segment, an initialisation section. It is read on after a break, whatever its server takes:
//! ranges, none, ranges other than those asked for, bodies compressed unasked.

use crate::{Address, Client, Error, Response};
use std::time::Duration;

/// Bytes handed over at once.
const MAX_PIECE: usize = 64 << 10;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Part {
    address: Address,
    /// The first byte.
    from: u64,
    /// How many bytes; `None`: to the end of the file.
    length: Option<u64>,
    /// How long one answer may take; `None`: as long as bytes keep coming.
    within: Option<Duration>,
    /// Bytes handed over.
    got: u64,
    /// The server compresses it: offsets of ranges would count something else.
    compressed: bool,
    /// The server refuses ranges.
    whole_only: bool,
    response: Option<Response>,
    /// Where the answer begins, and where the file ends if the server says so.
    begins: u64,
    whole: Option<u64>,
    /// What came along with the last bytes that were skipped.
    ready: Vec<u8>,
    /// All that came, for who wants it as a whole.
    collected: Vec<u8>,
}

impl Part {
    /// The whole file, or of this range (offset and length) of it.
    pub(crate) fn new(address: Address, range: Option<(u64, u64)>) -> Self {
        let (from, length) = range.map_or((0, None), |(from, length)| (from, Some(length)));
        Self {
            address,
            from,
            length,
            within: None,
            got: 0,
            compressed: false,
            whole_only: false,
            response: None,
            begins: 0,
            whole: None,
            ready: Vec::new(),
            collected: Vec::new(),
        }
    }

    /// Each answer has to be complete within this time.
    pub(crate) fn within(self, time: Duration) -> Self {
        Self { within: Some(time), ..self }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether something of it has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.got > 0
    }

    /// It is here now: the same bytes.
    pub(crate) fn move_to(&mut self, address: Address) {
        if self.address != address {
            (self.address, self.response) = (address, None);
        }
    }

    /// The next bytes; `None` at its end. After an error it may be called again, and goes on where it was.
    ///
    /// # Errors
    /// As [`Client::get`] and [`Response::next_piece`]; [`Error::Truncated`] if the server ends it early.
    pub(crate) fn next_piece(&mut self, client: &Client) -> Result<Option<Vec<u8>>, Error> {
        let left = self.length.map(|length| length.saturating_sub(self.got));
        if left == Some(0) {
            return Ok(None);
        }
        match self.read(client, left) {
            Ok(piece) => {
                self.got += piece.as_ref().map_or(0, |p| p.len() as u64);
                Ok(piece)
            }
            Err(e) => {
                (self.response, self.ready) = (None, Vec::new());
                Err(e)
            }
        }
    }

    /// All of it. After an error it may be called again, and goes on where it was.
    ///
    /// # Errors
    /// As [`Part::next_piece`]; [`Error::TooLarge`] beyond `most` bytes.
    pub(crate) fn all(&mut self, client: &Client, most: usize) -> Result<Vec<u8>, Error> {
        while let Some(piece) = self.next_piece(client)? {
            self.collected.extend(piece);
            if self.collected.len() > most {
                return Err(Error::TooLarge { size: self.collected.len() as u64, allowed: most as u64 });
            }
        }
        Ok(std::mem::take(&mut self.collected))
    }

    fn read(&mut self, client: &Client, left: Option<u64>) -> Result<Option<Vec<u8>>, Error> {
        if self.response.is_none() && !self.request(client)? {
            return Ok(None);
        }
        let most = left.map_or(MAX_PIECE, |left| usize::try_from(left).unwrap_or(MAX_PIECE).min(MAX_PIECE));
        let mut piece = std::mem::take(&mut self.ready);
        if piece.is_empty() {
            let Some(response) = &mut self.response else { return Ok(None) };
            match response.next_piece(most)? {
                Some(next) => piece = next,
                None if self.is_complete() => return Ok(None),
                None => return Err(Error::Truncated(self.address.authority())),
            }
        }
        if let Some(left) = left {
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        Ok(Some(piece))
    }

    /// Whether an answer that has come to its end brought all there is.
    fn is_complete(&self) -> bool {
        let end = self.from.saturating_add(self.got);
        match (self.whole, &self.response) {
            (Some(whole), _) => end >= whole,
            // The file is shorter than the playlist says, or the server does not say how long it is.
            (None, Some(response)) => self.length.is_none() || response.status == 200,
            (None, None) => true,
        }
    }

    /// Asks for what is left of it, and skips what is not; false if nothing is left.
    fn request(&mut self, client: &Client) -> Result<bool, Error> {
        let first = if self.compressed { self.from } else { self.from.saturating_add(self.got) };
        let last = self.length.map(|length| self.from.saturating_add(length).saturating_sub(1));
        let range = (first > 0 || last.is_some()).then_some((first, last)).filter(|_| !self.whole_only);
        let mut response = match client.get(&self.address, range) {
            // It had ended where it broke.
            Err(Error::Status { status: 416, .. }) if self.got > 0 && self.length.is_none() => return Ok(false),
            Err(Error::Status { status: 400 | 405 | 406 | 501, .. }) if range.is_some() => {
                self.whole_only = true;
                client.get(&self.address, None)?
            }
            answer => answer?,
        };
        if let Some(within) = self.within {
            response.set_deadline(within)?;
        }
        (self.begins, self.whole) = match (response.status, response.range) {
            (206, Some((at, whole))) => (at, whole),
            // What was asked for, says the status.
            (206, None) => (first, None),
            _ => (0, response.length),
        };
        self.compressed |= response.compressed;
        let wanted = self.from.saturating_add(self.got);
        let Some(mut skip) = wanted.checked_sub(self.begins) else {
            let what = "it sends another part of the file than was asked for";
            return Err(Error::Protocol { host: self.address.authority(), what });
        };
        while skip > 0 {
            let most = usize::try_from(skip).unwrap_or(MAX_PIECE).min(MAX_PIECE);
            let Some(mut piece) = response.next_piece(most)? else {
                return Err(Error::Truncated(self.address.authority()));
            };
            // One that comes compressed may be longer than what is left to skip.
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            self.ready = piece.split_off(skipped);
            skip -= skipped as u64;
        }
        self.response = Some(response);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
