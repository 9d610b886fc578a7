//! A socket that acknowledges what it reads at once.
//!
//! Encoders that leave Nagle's algorithm on (FFmpeg does) send the end of each frame only when what they sent before it is
//! acknowledged, and Linux acknowledges up to 40 ms late (`tcp(7)`, `TCP_QUICKACK`). That made each exchange of the handshake 40 ms
//! long, and frames late by as much.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct QuickAck(pub(super) TcpStream);

impl AsyncRead for QuickAck {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, buf));
        // The system leaves the mode by itself again, so each read asks for it. Without it all works, only later.
        #[cfg(target_os = "linux")]
        let _ = self.0.set_quickack(true);
        Poll::Ready(read)
    }
}

impl AsyncWrite for QuickAck {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A peer with Nagle's algorithm that writes twice and then waits for the answer, as FFmpeg does: without prompt
    /// acknowledgements each round takes 40 ms.
    #[tokio::test]
    async fn a_peer_with_nagles_algorithm_does_not_wait() {
        const ROUNDS: u32 = 50;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        ours.set_nodelay(true).unwrap();
        let answering = tokio::spawn(async move {
            let mut ours = QuickAck(ours);
            let mut two = [0; 2];
            while ours.read_exact(&mut two).await.is_ok() {
                ours.write_all(&[0]).await.unwrap();
            }
        });
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            peer.write_all(&[1]).await.unwrap();
            peer.write_all(&[2]).await.unwrap();
            peer.read_u8().await.unwrap();
        }
        // Half of what it takes without, and a hundred times what it takes with.
        assert!(begin.elapsed() < Duration::from_millis(20) * ROUNDS, "{:?}", begin.elapsed());
        drop(peer);
        answering.await.unwrap();
    }
}
