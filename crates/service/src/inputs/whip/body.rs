//! Reading a request's body within bounds of size and time.

use super::answers::{last, text};
use super::headers;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The largest offer that is read. Those of browsers with every codec, simulcast and candidates of many networks are 15 KiB.
pub(super) const MAX_OFFER_SIZE: usize = 64 * 1024;

/// How long a body may take: 64 KiB over the slowest mobile network, and then some.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(8);

/// The text of a body of `most` bytes, or the answer to one that can't be used.
pub(super) async fn read(request: &HeaderMap, body: Body, most: usize) -> Result<String, Response> {
    let waits = headers::expects(request)
        .map_err(|()| last(text(StatusCode::EXPECTATION_FAILED, "only Expect: 100-continue is understood")))?;
    let too_large = || {
        let message = format!("the body is too large: {most} bytes are taken at most");
        last(text(StatusCode::PAYLOAD_TOO_LARGE, message))
    };
    let until = Instant::now() + BODY_DEADLINE;
    let announced = headers::length(request).is_some_and(|length| length > most as u64);
    // A client that waits for permission to send its body gets none.
    if announced && waits {
        return Err(too_large());
    }
    let mut body = body;
    let mut read = Vec::new();
    let mut fits = !announced;
    loop {
        match timeout_at(until, chunk(&mut body)).await {
            Ok(Some(Ok(bytes))) => {
                fits = fits && read.len() + bytes.len() <= most;
                // What is too large is read all the same and thrown away: a client that still sends would find its connection
                // reset, and never see the answer.
                if fits {
                    read.extend_from_slice(&bytes);
                }
            }
            Ok(Some(Err(()))) => return Err(last(text(StatusCode::BAD_REQUEST, "the body did not arrive whole"))),
            Ok(None) if fits => break,
            Ok(None) => return Err(too_large()),
            Err(_) if !fits => return Err(too_large()),
            Err(_) => return Err(last(text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))),
        }
    }
    String::from_utf8(read).map_err(|_| text(StatusCode::BAD_REQUEST, "the body is not text (UTF-8)"))
}

/// The next bytes of a body; empty for trailers.
async fn chunk(body: &mut Body) -> Option<Result<axum::body::Bytes, ()>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(drop))
}
