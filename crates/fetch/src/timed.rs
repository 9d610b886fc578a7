//! A TCP stream with a deadline for each wait, and where that is set one for all of them: a byte now and then is no answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: TcpStream,
    each: Duration,
    until: Option<Instant>,
}

impl Timed {
    /// Lets each read and each write wait for so long.
    pub(crate) fn new(stream: TcpStream, each: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(each))?;
        stream.set_read_timeout(Some(each))?;
        Ok(Self { stream, each, until: None })
    }

    /// What lies below.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Lets no read last beyond this.
    pub(crate) fn set_until(&mut self, until: Option<Instant>) -> io::Result<()> {
        self.until = until;
        // With a deadline each read sets its own.
        if until.is_none() { self.stream.set_read_timeout(Some(self.each)) } else { Ok(()) }
    }
}

/// How long a read may wait; `None` if not at all.
fn wait(each: Duration, until: Instant, now: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(now).min(each)).filter(|wait| !wait.is_zero())
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until {
            let wait = wait(self.each, until, Instant::now()).ok_or(io::ErrorKind::TimedOut)?;
            self.stream.set_read_timeout(Some(wait))?;
        }
        self.stream.read(buf)
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_now_and_then_do_not_move_the_deadline() {
        let (second, begin) = (Duration::from_secs(1), Instant::now());
        let until = begin + second * 10;
        let (mut now, mut reads) = (begin, 0);
        // A server that sends a byte every three seconds, each in time for itself.
        while let Some(most) = wait(second * 4, until, now) {
            now += most.min(second * 3);
            reads += 1;
        }
        assert_eq!((now, reads), (until, 4));
        assert_eq!(wait(second * 4, until, begin), Some(second * 4));
        assert_eq!(wait(second * 4, until, until + second), None);
    }
}
