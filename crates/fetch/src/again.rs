//! A file whose server gives no ranges, read from its first byte to its last: what breaks on the way is asked for again from the
//! start, and what came before is left out.

use crate::{Address, Client, Error, Response};
use std::time::Duration;

/// Waits between attempts that bring nothing new; after the last the file is given up. Few, as each costs its server the whole
/// file once more.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];
/// Bytes that are left out at once.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Again {
    client: Client,
    address: Address,
    response: Response,
    length: Option<u64>,
    tag: Option<String>,
    got: u64,
    tries: usize,
}

impl Again {
    /// Goes on with `response`, which `address` gave and of which `got` bytes were read.
    pub fn new(client: Client, address: Address, response: Response, got: u64) -> Self {
        let (length, tag) = (response.length, response.tag.clone());
        Self { client, address, response, length, tag, got, tries: 0 }
    }

    /// The next bytes, `most` of them at the most; `None` at the end.
    ///
    /// # Errors
    /// What broke, if it was not known how long the file is (a stream that goes on for ever is another one when asked again), or
    /// if it broke again and again; [`Error::Changed`] if the file is another one now.
    pub fn next_piece(&mut self, most: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut piece = self.response.next_piece(most);
        while let Err(broken) = &piece
            && self.length.is_some()
            && broken.passes()
            && let Some(wait) = WAITS.get(self.tries)
        {
            self.tries += 1;
            std::thread::sleep(*wait);
            piece = self.reopen().and_then(|()| self.response.next_piece(most));
        }
        let piece = piece?;
        self.tries = 0;
        self.got += piece.as_ref().map_or(0, |p| p.len() as u64);
        Ok(piece)
    }

    /// Asks once more, and reads up to where it broke.
    fn reopen(&mut self) -> Result<(), Error> {
        let mut response = self.client.get(&self.address, None)?;
        if response.length != self.length || response.tag != self.tag {
            return Err(Error::Changed(self.address.authority()));
        }
        let mut left = self.got;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let Some(piece) = response.next_piece(most)? else { break };
            left = left.saturating_sub(piece.len() as u64);
        }
        self.response = response;
        Ok(())
    }
}
