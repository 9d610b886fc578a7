//! Random access to a file whose server takes range requests, for a demultiplexer that looks for an index at the end of a file or
//! reads audio and video that lie far apart in it.
//!
//! It makes few requests: an open response is read on while the next block lies a little ahead. Memory is bounded: some cached
//! blocks, and the receive buffers of open connections.

use crate::backoff::RETRY_WAITS;
use crate::{Address, Client, Error, Response, Version};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// The unit of reading and caching, in bytes: one read of a socket.
const BLOCK: u64 = 64 << 10;
/// Blocks in the cache: 4 MiB, the distance of audio and video in a badly interleaved file.
const CACHED_BLOCKS: usize = 64;
/// Open responses: one at the place of the video, one at that of the audio, one at the index.
const MAX_CURSORS: usize = 3;
/// A block at most this many bytes ahead is reached by reading on: on usual connections a new request takes about as long.
const READ_AHEAD: u64 = 512 << 10;
/// A file, read at any offset.
#[derive(Debug)]
pub struct RangeFile {
    client: Client,
    address: Address,
    length: u64,
    version: Version,
    content_type: String,
    blocks: VecDeque<(u64, Bytes)>,
    cursors: Vec<Cursor>,
}

/// An open response that is read block by block.
#[derive(Debug)]
struct Cursor {
    /// The number of the next block.
    block: u64,
    response: Response,
    /// The beginning of the next block.
    rest: Vec<u8>,
    used: Instant,
}

impl RangeFile {
    /// The file that `response` answers `Range: bytes=0-` with, of which `head` was read already. `asked` is the address before
    /// redirects: the next request may be redirected elsewhere.
    ///
    /// # Errors
    /// The response, as it was, if its server takes no range requests.
    pub fn open(client: Client, asked: Address, response: Response, head: &[u8]) -> Result<Self, Box<Response>> {
        let Some((0, Some(length))) = response.range.filter(|_| response.status == 206) else {
            return Err(Box::new(response));
        };
        let (version, content_type) = (response.version.clone(), response.content_type.clone());
        let first = Cursor { block: 0, response, rest: head.to_vec(), used: Instant::now() };
        let (blocks, cursors) = (VecDeque::new(), vec![first]);
        Ok(Self { client, address: asked, length, version, content_type, blocks, cursors })
    }

    /// The content type that the server names; empty if it names none.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads `most` bytes from `at` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// Why they do not come, after some attempts; [`Error::Changed`].
    pub fn read(&mut self, at: u64, most: usize) -> Result<Vec<u8>, Error> {
        let end = self.length.min(at.saturating_add(most as u64));
        let mut out = Vec::with_capacity(end.saturating_sub(at) as usize);
        let mut at = at;
        while at < end {
            let block = self.block(at / BLOCK)?;
            let from = (at % BLOCK) as usize;
            let piece = block.get(from..).unwrap_or_default();
            let piece = &piece[..piece.len().min((end - at) as usize)];
            if piece.is_empty() {
                return Err(Error::Changed(self.address.authority()));
            }
            out.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Ok(out)
    }

    fn block(&mut self, number: u64) -> Result<Bytes, Error> {
        if let Some((_, block)) = self.blocks.iter().find(|(n, _)| *n == number) {
            return Ok(block.clone());
        }
        let mut tries = RETRY_WAITS.iter();
        loop {
            match self.fetch(number) {
                Ok(Some(block)) => return Ok(block),
                // There was progress: the attempts are counted again.
                Ok(None) => tries = RETRY_WAITS.iter(),
                Err(e) if e.may_pass() => match tries.next() {
                    Some(wait) => std::thread::sleep(*wait),
                    None => return Err(e),
                },
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads on to a block; `None` if the connection broke before it, but after some progress.
    fn fetch(&mut self, number: u64) -> Result<Option<Bytes>, Error> {
        let near = |c: &Cursor| c.block <= number && (number - c.block) * BLOCK <= READ_AHEAD;
        let nearest = self.cursors.iter().enumerate().filter(|(_, c)| near(c)).max_by_key(|(_, c)| c.block);
        let mut cursor = match nearest.map(|(i, _)| i) {
            Some(i) => self.cursors.swap_remove(i),
            None => self.request(number)?,
        };
        let mut progress = false;
        loop {
            match cursor.next_block(self.length) {
                Ok((n, block)) => {
                    progress = true;
                    if self.blocks.len() == CACHED_BLOCKS {
                        self.blocks.pop_front();
                    }
                    self.blocks.push_back((n, block.clone()));
                    if n == number {
                        self.keep(cursor);
                        return Ok(Some(block));
                    }
                }
                Err(e) if e.may_pass() && progress => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    fn keep(&mut self, mut cursor: Cursor) {
        if cursor.block * BLOCK >= self.length {
            // Reading the end makes the connection available for another request.
            let _ = cursor.response.next_piece(1);
            return;
        }
        cursor.used = Instant::now();
        if self.cursors.len() == MAX_CURSORS {
            let oldest = self.cursors.iter().enumerate().min_by_key(|(_, c)| c.used).map_or(0, |(i, _)| i);
            self.cursors.swap_remove(oldest);
        }
        self.cursors.push(cursor);
    }

    fn request(&self, number: u64) -> Result<Cursor, Error> {
        let from = number * BLOCK;
        let mut response = self.client.get(&self.address, Some((from, None)))?;
        let (begins, length) = match (response.status, response.range) {
            (206, Some((at, whole))) => (at, whole),
            (206, None) => (from, response.length.map(|length| from + length)),
            // Another server behind the same name, which takes no ranges.
            _ => (0, response.length),
        };
        let other = length.is_some_and(|length| length != self.length) || response.version.is_other(&self.version);
        if other || begins > from {
            return Err(Error::Changed(self.address.authority()));
        }
        let rest = skip(&mut response, from - begins)?;
        Ok(Cursor { block: number, response, rest, used: Instant::now() })
    }
}

/// Skips so many bytes; gives what came along with the last of them.
fn skip(response: &mut Response, mut left: u64) -> Result<Vec<u8>, Error> {
    while left > 0 {
        let most = usize::try_from(left.min(BLOCK)).unwrap_or(BLOCK as usize);
        let Some(mut piece) = response.next_piece(most)? else {
            return Err(Error::Truncated(response.address.authority()));
        };
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let rest = piece.split_off(skipped);
        left -= skipped as u64;
        if left == 0 {
            return Ok(rest);
        }
    }
    Ok(Vec::new())
}

impl Cursor {
    fn next_block(&mut self, length: u64) -> Result<(u64, Bytes), Error> {
        let size = BLOCK.min(length.saturating_sub(self.block * BLOCK)) as usize;
        while self.rest.len() < size {
            match self.response.next_piece(BLOCK as usize)? {
                Some(piece) if self.rest.is_empty() => self.rest = piece,
                Some(piece) => self.rest.extend_from_slice(&piece),
                None => return Err(Error::Truncated(self.response.address.authority())),
            }
        }
        let after = self.rest.split_off(size);
        let block = Bytes::from(std::mem::replace(&mut self.rest, after));
        let number = self.block;
        self.block += 1;
        Ok((number, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{PullGuard, PullLimits};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Serves ranges of `data`, hangs up after `break_after` bytes of each response, and counts requests.
    fn server(data: Vec<u8>, break_after: usize) -> (Address, Arc<AtomicUsize>) {
        serve(data, break_after, |_| (true, String::new()))
    }

    /// The same; `of` says for each request whether ranges are taken, and gives further lines of the head.
    fn serve(data: Vec<u8>, break_after: usize, of: fn(usize) -> (bool, String)) -> (Address, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&format!("http://{}/f", listener.local_addr().unwrap())).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let (requests, data) = (count.clone(), Arc::new(data));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, data) = (socket.unwrap(), data.clone());
                let (ranges, lines) = of(requests.fetch_add(1, Ordering::Relaxed));
                std::thread::spawn(move || {
                    let mut request = vec![0; 4096];
                    let n = socket.read(&mut request).unwrap();
                    let text = String::from_utf8_lossy(&request[..n]).into_owned();
                    let from: usize = text.split("bytes=").nth(1).unwrap().split('-').next().unwrap().parse().unwrap();
                    let from = if ranges { from } else { 0 };
                    let (last, whole) = (data.len() - 1, data.len());
                    let said = format!("206 P\r\nContent-Range: bytes {from}-{last}/{whole}");
                    let said = if ranges { said.as_str() } else { "200 OK" };
                    let head = format!("HTTP/1.1 {said}\r\n{lines}Content-Length: {}\r\n\r\n", whole - from);
                    let _ = socket.write_all(head.as_bytes());
                    let end = if ranges { whole.min(from.saturating_add(break_after)) } else { whole };
                    let _ = socket.write_all(&data[from..end]);
                });
            }
        });
        (address, count)
    }

    fn open(address: &Address) -> RangeFile {
        let client = Client::new(PullGuard::default(), &PullLimits::default());
        let response = client.get(address, Some((0, None))).unwrap();
        RangeFile::open(client, address.clone(), response, &[]).unwrap()
    }

    fn data(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn any_offset_is_read_with_few_requests() {
        let data = data(3_000_001);
        let (address, requests) = server(data.clone(), usize::MAX);
        let mut file = open(&address);
        assert_eq!(file.length(), 3_000_001);
        // The end, then audio and video that lie a megabyte apart, in turns.
        assert_eq!(file.read(2_999_990, 100).unwrap(), data[2_999_990..]);
        for i in 0..100 {
            for at in [i * 9_000, 1_200_000 + i * 12_000] {
                assert_eq!(file.read(at as u64, 9_000).unwrap(), data[at..at + 9_000]);
            }
        }
        assert_eq!(file.read(5_000_000, 10).unwrap(), Vec::<u8>::new());
        assert!(requests.load(Ordering::Relaxed) <= 4, "{requests:?}");
    }

    #[test]
    fn servers_behind_one_name_may_differ() {
        let data = data(700_000);
        let servers: [fn(usize) -> (bool, String); 3] = [
            |count| (true, format!("ETag: \"{count}\"\r\nLast-Modified: Monday\r\n")),
            |count| (true, if count % 2 == 0 { "ETag: \"a\"\r\n".into() } else { String::new() }),
            |count| (count == 0, "ETag: \"a\"\r\n".into()),
        ];
        for of in servers {
            let (address, requests) = serve(data.clone(), 300_000, of);
            let mut file = open(&address);
            assert_eq!(file.read(100, 250_000).unwrap(), data[100..250_100]);
            assert_eq!(file.read(250_000, 200_000).unwrap(), data[250_000..450_000]);
            assert!(requests.load(Ordering::Relaxed) > 1);
        }
        let (address, _) = serve(data.clone(), 100_000, |count| (true, format!("ETag: \"{count}\"\r\n")));
        assert!(matches!(open(&address).read(0, 300_000), Err(Error::Changed(_))));
    }

    #[test]
    fn broken_connections_only_cost_requests() {
        let data = data(700_000);
        let (address, requests) = server(data.clone(), 100_000);
        let mut file = open(&address);
        let mut all = Vec::new();
        while all.len() < data.len() {
            all.extend(file.read(all.len() as u64, 50_000).unwrap());
        }
        assert_eq!(all, data);
        assert!(requests.load(Ordering::Relaxed) > 5);
    }
}
