//! WHIP sessions over psrpc: `IngressHandler.DeleteWHIPResource` and `ICERestartWHIPResource`, on a topic for each session.
//!
//! Both ends are ingresses, ours or the Go ingress. The second method carries candidates as well as restarts: what it is about
//! stands in its `if_match`, as in the HTTP request.

use crate::control::{WhipAnswer, WhipHandler, WhipRefusal, WhipRefusalKind, WhipRequest};
use model::{ResourceId, Secret};
use proto::{DeleteWhipResourceRequest, Empty, IceRestartWhipResourceRequest, IceRestartWhipResourceResponse};
use psrpc::{Client, Code, Error, Failure, Method, Options, Registration, Server, first_come};
use std::fmt::Write as _;
use std::time::Duration;

const DELETE_WHIP_RESOURCE: Method = Method::any_one("DeleteWHIPResource");
const ICE_RESTART_WHIP_RESOURCE: Method = Method::any_one("ICERestartWHIPResource");

/// What the Go ingress grants a session to answer; finding it takes a second at most.
const CALL: Duration = Duration::from_secs(5);

/// Registers both methods on the topic of a session.
pub(super) fn register(server: &Server, resource: &ResourceId, handler: WhipHandler) -> [Registration; 2] {
    let delete = handler.clone();
    [
        server.register(DELETE_WHIP_RESOURCE, &resource.0, first_come, move |request: DeleteWhipResourceRequest| {
            let answer = delete(Secret::new(request.stream_key), WhipRequest::Delete);
            async move { answer.await.map(|_| Empty {}).map_err(failure) }
        }),
        server.register(
            ICE_RESTART_WHIP_RESOURCE,
            &resource.0,
            first_come,
            move |request: IceRestartWhipResourceRequest| {
                let fragment = fragment(&request);
                let key = Secret::new(request.stream_key);
                let answer = handler(key, WhipRequest::Ice { if_match: request.if_match, fragment });
                async move {
                    let WhipAnswer { fragment, etag } = answer.await.map_err(failure)?;
                    Ok(IceRestartWhipResourceResponse { trickle_ice_sdpfrag: fragment, etag })
                }
            },
        ),
    ]
}

/// Asks the instance where the session runs.
pub(super) async fn call(
    client: &Client,
    resource: &ResourceId,
    key: &Secret,
    request: WhipRequest,
) -> Result<WhipAnswer, WhipRefusal> {
    let options = Options { timeout: CALL, repeat: false, ..Options::default() };
    let (resource_id, stream_key) = (resource.0.clone(), key.expose().to_owned());
    let answered = match request {
        WhipRequest::Delete => {
            let request = DeleteWhipResourceRequest { resource_id, stream_key };
            let answer = client.call::<_, Empty>(&DELETE_WHIP_RESOURCE, &resource.0, &request, &options).await;
            answer.map(|Empty {}| WhipAnswer::default())
        }
        WhipRequest::Ice { if_match, fragment } => {
            let request = IceRestartWhipResourceRequest {
                resource_id,
                stream_key,
                // The Go ingress reads these two and not the fragment.
                user_fragment: attribute(&fragment, "ice-ufrag"),
                password: attribute(&fragment, "ice-pwd"),
                candidates: Vec::new(),
                raw_trickle_ice_sdpfrag: fragment,
                if_match,
            };
            let answer = client.call(&ICE_RESTART_WHIP_RESOURCE, &resource.0, &request, &options).await;
            answer.map(|a: IceRestartWhipResourceResponse| WhipAnswer { fragment: a.trickle_ice_sdpfrag, etag: a.etag })
        }
    };
    answered.map_err(|error| refusal(&error))
}

/// The value of the first `a=name:` line.
fn attribute(fragment: &str, name: &str) -> String {
    let value = |line: &str| Some(line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    fragment.lines().find_map(value).unwrap_or_default()
}

/// The fragment as it was sent, or what the other fields say.
fn fragment(request: &IceRestartWhipResourceRequest) -> String {
    if !request.raw_trickle_ice_sdpfrag.is_empty() {
        return request.raw_trickle_ice_sdpfrag.clone();
    }
    let mut fragment = String::new();
    // Writing to a String cannot fail.
    let _ = write!(fragment, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", request.user_fragment, request.password);
    for candidate in &request.candidates {
        let _ = write!(fragment, "a={candidate}\r\n");
    }
    fragment
}

/// Each kind of refusal with its code on the wire. [`WhipRefusalKind::Unconditional`] is answered before another machine is asked.
const CODES: [(WhipRefusalKind, Code); 7] = [
    (WhipRefusalKind::WrongKey, Code::PermissionDenied),
    (WhipRefusalKind::Gone, Code::NotFound),
    (WhipRefusalKind::OtherIceSession, Code::FailedPrecondition),
    (WhipRefusalKind::Malformed, Code::InvalidArgument),
    (WhipRefusalKind::Unprocessable, Code::UnprocessableEntity),
    (WhipRefusalKind::Unconditional, Code::OutOfRange),
    (WhipRefusalKind::Unreachable, Code::Unavailable),
];

fn failure(refusal: WhipRefusal) -> Failure {
    let code = CODES.iter().find(|(why, _)| *why == refusal.why).map_or(Code::Internal, |(_, code)| *code);
    Failure::new(code, refusal.text)
}

fn refusal(error: &Error) -> WhipRefusal {
    match error {
        Error::NoServers { .. } | Error::NoneWilling { .. } => WhipRefusal::gone(),
        Error::Remote(failure) => {
            let why = CODES.iter().find(|(_, code)| *code == failure.code);
            WhipRefusal::new(why.map_or(WhipRefusalKind::Unreachable, |(why, _)| *why), &failure.message)
        }
        other => {
            // Its text names machines of ours, and goes to whoever asked.
            tracing::debug!(error = %other, "the machine of a WHIP session was not reached");
            let text = "the machine of this WHIP session was not reached; try again in a moment";
            WhipRefusal::new(WhipRefusalKind::Unreachable, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        for (why, _) in CODES {
            let sent = WhipRefusal::new(why, "words");
            assert_eq!(refusal(&failure(sent.clone()).into()), sent);
        }
        assert_eq!(refusal(&Error::NoServers { nobody_listens: true }).why, WhipRefusalKind::Gone);
        assert_eq!(refusal(&Error::TimedOut).why, WhipRefusalKind::Unreachable);
    }

    #[test]
    fn a_fragment_is_made_where_only_its_parts_came() {
        let mut request = IceRestartWhipResourceRequest {
            user_fragment: "u".into(),
            password: "p".into(),
            candidates: vec!["candidate:1 1 udp 1 192.0.2.1 9 typ host".into()],
            ..Default::default()
        };
        let made = fragment(&request);
        assert_eq!(made, "a=ice-ufrag:u\r\na=ice-pwd:p\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n");
        assert_eq!((attribute(&made, "ice-ufrag"), attribute(&made, "ice-pwd")), ("u".into(), "p".into()));
        assert_eq!(attribute("a=ice-ufrags:x\r\nm=ice-ufrag:y", "ice-ufrag"), "");
        request.raw_trickle_ice_sdpfrag = "a=end-of-candidates".into();
        assert_eq!(fragment(&request), "a=end-of-candidates");
    }
}
