//! The way to the server through a proxy of the environment, as browsers go it: a tunnel, with TLS and without.

use crate::{Error, join};
use model::{Proxies, Proxy, ProxyAnswer};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// How long a proxy may take to open a way: as long as it may take to connect, for it does so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The proxy that leads to a server, if one is to be used.
pub(crate) fn proxy<'a>(proxies: &'a Proxies, server: &Url) -> Option<&'a Proxy> {
    let (host, port) = host_and_port(server);
    proxies.leading_to(server.scheme() == "wss", host, port)
}

/// Where a server is; IPv6 without brackets.
pub(crate) fn host_and_port(url: &Url) -> (&str, u16) {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    (host, url.port_or_known_default().unwrap_or(80))
}

/// Opens a way to `server` on a connection to the proxy.
pub(crate) async fn open(stream: &mut TcpStream, proxy: &Proxy, server: &Url) -> Result<(), Error> {
    let refused = |why: String| Error::Proxy { proxy: proxy.to_string(), at: join::name(server), why };
    match timeout(ANSWER_TIMEOUT, exchange(stream, proxy, server)).await {
        Ok(Ok(ProxyAnswer::Refused(why))) => Err(refused(why)),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(refused(format!("no answer within {ANSWER_TIMEOUT:?}"))),
    }
}

async fn exchange(stream: &mut TcpStream, proxy: &Proxy, server: &Url) -> io::Result<ProxyAnswer> {
    let (host, port) = host_and_port(server);
    stream.write_all(proxy.connect(host, port).expose().as_bytes()).await?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&piece[..n]),
        }
        match Proxy::answer_alone(&answer) {
            ProxyAnswer::Partial => {}
            done => return Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What comes of a proxy that answers so; and what it was asked.
    async fn asked(answer: &[u8], server: &str) -> (Result<(), Error>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (proxies, _) =
            Proxies::of_environment(|name| (name == "ALL_PROXY").then(|| format!("http://me:secret@{at}")));
        let server = join::base(server).unwrap();
        let proxy = proxy(&proxies, &server).unwrap().clone();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let opening = async {
            let mut stream = TcpStream::connect(at).await.unwrap();
            open(&mut stream, &proxy, &server).await
        };
        tokio::join!(opening, serving)
    }

    #[tokio::test]
    async fn a_way_is_asked_for_or_the_fault_said() {
        let (opened, request) = asked(b"HTTP/1.1 200 OK\r\n\r\n", "wss://sfu.example.com/path").await;
        assert!(opened.is_ok() && request.starts_with("CONNECT sfu.example.com:443 HTTP/1.1\r\n"), "{request}");
        for (answer, why) in [
            (&b"HTTP/1.1 403 No\r\n\r\n"[..], "it answers 403"),
            (b"HTTP/1.1 200 OK\r\n\r\nwelcome", "it says more than it was asked"),
            (b"", "unexpected end of file"),
        ] {
            let error = asked(answer, "ws://sfu.example.com:7880").await.0.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(why) && text.contains("ws://sfu.example.com:7880") && !text.contains("secret"),
                "{text}"
            );
            assert!(error.fault().retry);
        }
    }
}
