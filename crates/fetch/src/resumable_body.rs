//! The body of a file whose server takes no range requests. After a break the file is requested again from the start, and the
//! bytes that came before are skipped.

use crate::{Address, Client, Error, Response, Version};
use std::time::Duration;

/// Waits between attempts that bring nothing new; after the last the file is given up. Few, as each costs the server the whole
/// file once more.
const RETRY_WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];
/// Bytes that are skipped at once.
const SKIP_CHUNK: usize = 64 << 10;

/// Reads one file from its first byte to its last, across broken connections.
#[derive(Debug)]
pub struct ResumableBody {
    client: Client,
    address: Address,
    response: Response,
    length: Option<u64>,
    version: Version,
    /// Bytes read so far.
    got: u64,
    /// What came along with the last bytes that were skipped.
    ready: Option<Vec<u8>>,
    /// Attempts since bytes last came.
    tries: usize,
}

impl ResumableBody {
    /// Continues `response`, the answer of `address`, of which `got` bytes were read already.
    pub fn new(client: Client, address: Address, response: Response, got: u64) -> Self {
        let (length, version) = (response.length, response.version.clone());
        Self { client, address, response, length, version, got, ready: None, tries: 0 }
    }

    /// The next bytes, at most `most`; `None` at the end.
    ///
    /// # Errors
    /// What broke, if the length of the file is unknown (an endless stream is a different one when it is requested again) or if
    /// all attempts are used up; [`Error::Changed`] if the file is a different one now.
    pub fn next_piece(&mut self, most: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut piece = self.response.next_piece(most);
        while let Err(broken) = &piece
            && self.length.is_some()
            && broken.may_pass()
            && let Some(wait) = RETRY_WAITS.get(self.tries)
        {
            self.tries += 1;
            std::thread::sleep(*wait);
            piece = self.reopen().and_then(|()| self.response_piece(most));
        }
        let piece = piece?;
        self.tries = 0;
        self.got += piece.as_ref().map_or(0, |p| p.len() as u64);
        Ok(piece)
    }

    fn response_piece(&mut self, most: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.ready.take() {
            Some(ready) => Ok(Some(ready)),
            None => self.response.next_piece(most),
        }
    }

    /// Requests the file again, and skips to where it broke.
    fn reopen(&mut self) -> Result<(), Error> {
        let mut response = self.client.get(&self.address, None)?;
        if response.length != self.length || response.version.is_other(&self.version) {
            return Err(Error::Changed(self.address.authority()));
        }
        let mut left = self.got;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(SKIP_CHUNK).min(SKIP_CHUNK);
            let Some(mut piece) = response.next_piece(most)? else { break };
            // One that comes compressed may be longer than what is left to skip.
            let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let rest = piece.split_off(skipped);
            self.ready = Some(rest).filter(|rest| !rest.is_empty());
            left -= skipped as u64;
        }
        self.response = response;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{PullGuard, PullLimits};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Runs a server that gives each connection the next of `answers` and hangs up. Returns what was read from it to the end, and
    /// how many requests it saw.
    fn read(answers: &[&str]) -> (Result<String, Error>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        let answers: Vec<String> = answers.iter().map(|a| format!("HTTP/1.1 200 OK\r\n{a}")).collect();
        let server = std::thread::spawn(move || {
            let mut taken = 0;
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let mut asked = [0; 4096];
                let n = socket.read(&mut asked).unwrap();
                if n == 0 {
                    break;
                }
                assert!(!String::from_utf8_lossy(&asked[..n]).contains("Range"));
                socket.write_all(answer.as_bytes()).unwrap();
                taken += 1;
            }
            taken
        });
        let client = Client::new(PullGuard::default(), &PullLimits::default());
        let response = client.get(&address, None).unwrap();
        let mut body = ResumableBody::new(client, address.clone(), response, 0);
        let mut got = Vec::new();
        let end = loop {
            match body.next_piece(4) {
                Ok(Some(piece)) => got.extend(piece),
                Ok(None) => break Ok(String::from_utf8(got).unwrap()),
                Err(e) => break Err(e),
            }
        };
        // Releases a server that still waits for a request.
        let mut last = std::net::TcpStream::connect(address.authority()).ok();
        let _ = last.as_mut().map(|l| l.shutdown(std::net::Shutdown::Write));
        (end, server.join().unwrap())
    }

    #[test]
    fn bytes_before_the_break_are_skipped() {
        let (got, asked) = read(&[
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdef",
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdefgh",
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdefghijkl",
            "",
        ]);
        assert_eq!((got.unwrap().as_str(), asked), ("abcdefghijkl", 3));
    }

    #[test]
    fn a_changed_file_is_an_error() {
        for second in ["ETag: b\r\nContent-Length: 12\r\n\r\n", "ETag: a\r\nContent-Length: 13\r\n\r\n"] {
            let (got, _) = read(&["ETag: a\r\nContent-Length: 12\r\n\r\nabcdef", second]);
            assert!(matches!(got, Err(Error::Changed(_))), "{got:?}");
        }
    }

    #[test]
    fn a_break_at_the_same_place_is_given_up() {
        let answer = "Content-Length: 12\r\n\r\nabcdef";
        let (got, asked) = read(&[answer, answer, answer, answer, ""]);
        assert!(matches!(got, Err(Error::Truncated(_))), "{got:?}");
        assert_eq!(asked, 1 + RETRY_WAITS.len());
    }

    #[test]
    fn unknown_length_is_not_requested_twice() {
        let (got, asked) = read(&["Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""]);
        assert!(matches!(got, Err(Error::Truncated(_))), "{got:?}");
        assert_eq!(asked, 1);
    }
}
