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

#[cfg(test)]
mod tests {
    use super::*;
    use model::{PullGuard, PullLimits};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server that gives each connection the next of these answers and hangs up; and what was read of it to the end.
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
        let mut again = Again::new(client, address.clone(), response, 0);
        let mut got = Vec::new();
        let end = loop {
            match again.next_piece(4) {
                Ok(Some(piece)) => got.extend(piece),
                Ok(None) => break Ok(String::from_utf8(got).unwrap()),
                Err(e) => break Err(e),
            }
        };
        // Those that nobody asked for.
        let mut last = std::net::TcpStream::connect(address.authority()).ok();
        let _ = last.as_mut().map(|l| l.shutdown(std::net::Shutdown::Write));
        (end, server.join().unwrap())
    }

    #[test]
    fn what_came_before_the_break_is_left_out() {
        let (got, asked) = read(&[
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdef",
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdefgh",
            "ETag: a\r\nContent-Length: 12\r\n\r\nabcdefghijkl",
            "",
        ]);
        assert_eq!((got.unwrap().as_str(), asked), ("abcdefghijkl", 3));
    }

    #[test]
    fn another_file_is_not_gone_on_with() {
        for second in ["ETag: b\r\nContent-Length: 12\r\n\r\n", "ETag: a\r\nContent-Length: 13\r\n\r\n"] {
            let (got, _) = read(&["ETag: a\r\nContent-Length: 12\r\n\r\nabcdef", second]);
            assert!(matches!(got, Err(Error::Changed(_))), "{got:?}");
        }
    }

    #[test]
    fn what_breaks_at_the_same_place_each_time_is_given_up() {
        let answer = "Content-Length: 12\r\n\r\nabcdef";
        let (got, asked) = read(&[answer, answer, answer, answer, ""]);
        assert!(matches!(got, Err(Error::Truncated(_))), "{got:?}");
        assert_eq!(asked, 1 + WAITS.len());
    }

    #[test]
    fn what_says_nothing_of_its_length_is_not_asked_for_twice() {
        let (got, asked) = read(&["Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""]);
        assert!(matches!(got, Err(Error::Truncated(_))), "{got:?}");
        assert_eq!(asked, 1);
    }
}
