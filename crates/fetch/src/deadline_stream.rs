//! A TCP stream with a timeout for each read and write, and optionally one deadline for all reads, so that a peer that sends a
//! byte now and then cannot hold us up.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The stream of [`Socket`](crate::socket::Socket), below TLS where there is TLS.
#[derive(Debug)]
pub(crate) struct DeadlineStream {
    stream: TcpStream,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl DeadlineStream {
    /// Gives each read and each write this timeout.
    pub(crate) fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(timeout))?;
        stream.set_read_timeout(Some(timeout))?;
        Ok(Self { stream, timeout, deadline: None })
    }

    /// The TCP stream.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sets the deadline of all reads that follow; `None` removes it.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.deadline = deadline;
        // With a deadline each read sets a timeout of its own.
        if deadline.is_none() { self.stream.set_read_timeout(Some(self.timeout)) } else { Ok(()) }
    }
}

/// The timeout of a read at `now`; `None` after the deadline.
fn read_timeout(timeout: Duration, deadline: Instant, now: Instant) -> Option<Duration> {
    Some(deadline.saturating_duration_since(now).min(timeout)).filter(|wait| !wait.is_zero())
}

impl Read for DeadlineStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let wait = read_timeout(self.timeout, deadline, Instant::now()).ok_or(io::ErrorKind::TimedOut)?;
            self.stream.set_read_timeout(Some(wait))?;
        }
        self.stream.read(buf)
    }
}

impl Write for DeadlineStream {
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
    fn a_dripping_server_does_not_move_the_deadline() {
        let (second, begin) = (Duration::from_secs(1), Instant::now());
        let deadline = begin + second * 10;
        let (mut now, mut reads) = (begin, 0);
        // A server that sends a byte every three seconds, each in time for itself.
        while let Some(most) = read_timeout(second * 4, deadline, now) {
            now += most.min(second * 3);
            reads += 1;
        }
        assert_eq!((now, reads), (deadline, 4));
        assert_eq!(read_timeout(second * 4, deadline, begin), Some(second * 4));
        assert_eq!(read_timeout(second * 4, deadline, deadline + second), None);
    }
}
