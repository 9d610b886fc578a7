//! A publisher over WHIP that waits for its answer: an offer (RFC 9725 §4.2).

use super::answers;
use super::handles::Handles;
use super::headers::{FRAGMENT, SDP};
use super::media::Accepted;
use super::resources::etag;
use crate::boxed::BoxFuture;
use crate::inputs::request::{PublishRequest, PublishTarget, Publisher};
use crate::sessions::admitted::Admitted;
use crate::sessions::prejoin::Wanted;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use model::{Blame, Fault, InputKind, LogBudget, ResourceId, Secret, VideoFormat};
use rtc::{Accept, Offer};
use session::Source;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// A client that offers media. If it is dropped, the client is answered with a transient fault.
pub struct Request {
    /// The keys that were shown; the first that exists counts.
    pub keys: Vec<Secret>,
    /// What stands before the key in the path. Clients find their session by it; in a log it may be a secret.
    pub app: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The client's program, as it calls itself.
    pub agent: String,
    pub(super) offer: String,
    pub(super) handles: Handles,
    pub(super) answer: oneshot::Sender<Response>,
}

impl Request {
    /// Accepts the offer for the session `resource` in a room of the server `ws_url`, and answers it. The source ends with the client, and its end takes the
    /// session off the list of those that can be asked.
    ///
    /// # Errors
    /// Why the offer can't be accepted; the client was answered.
    pub async fn accept(
        self,
        key: &Secret,
        resource: ResourceId,
        ws_url: &str,
        accept: &Accept,
    ) -> Result<Source, Fault> {
        let Self { app, offer, handles, answer, .. } = self;
        let Accepted { sdp, control, begin } = match handles.media.accept(&offer, accept) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let text = refusal.to_string();
                // A client that has gone misses nothing.
                let _ = answer.send(answers::offer(&refusal));
                let full = matches!(refusal, rtc::Refusal::Full);
                let blame = if full { Blame::Capacity } else { Blame::Source };
                return Err(Fault { blame, retry: full, text });
            }
        };
        let etag = etag(&control.ice_session());
        let added = handles.resources.add(resource.clone(), key.clone(), control.clone(), &*handles.control).await;
        let listed = match added {
            Ok(listed) => listed,
            Err(fault) => {
                let _ = answer.send(answers::fault(&fault));
                return Err(fault);
            }
        };
        let mut response = created(&app, key, &resource, &etag, sdp);
        answers::add_links(response.headers_mut(), handles.ice_servers.all(&resource.0, ws_url, SystemTime::now()));
        if answer.send(response).is_err() {
            return Err(Fault::transient(
                Blame::Source,
                "the client closed its connection before its offer was answered",
            ));
        }
        Ok(begin(Box::new(listed)))
    }

    /// How the video would be coded if everything that can be received is accepted; the inner `None` where there is no video, the outer
    /// where there is nothing to accept.
    pub fn first_choice(&self, accept: &Accept) -> Option<Option<VideoFormat>> {
        Some(Offer::read(&self.offer, accept).ok()?.video_format().cloned())
    }

    /// Sends the client away with the fault's text.
    pub fn reject(self, fault: &Fault) {
        // A client that has gone needs no answer.
        let _ = self.answer.send(answers::fault(fault));
    }

    /// What to accept of the offer. Where nothing is transcoded, the room's codecs decide. The room is asked for its TURN servers too,
    /// where the client is to be told those.
    async fn acceptable(&self, admitted: &mut Admitted) -> Accept {
        let transcode = admitted.transcode();
        let accept = if transcode { Accept::transcoded() } else { Accept::passthrough() };
        let Some(format) = self.first_choice(&accept) else { return accept };
        let wanted = Wanted { codec: format.filter(|_| !transcode), turn: self.handles.ice_servers.wants_rooms() };
        if wanted == Wanted::default() {
            return accept;
        }
        match admitted.room_codecs(wanted).await {
            Some(codecs) if !transcode => accept.only(codecs),
            _ => accept,
        }
    }
}

impl PublishRequest for Request {
    fn input(&self) -> InputKind {
        InputKind::Whip
    }

    fn wanted(&self) -> PublishTarget {
        PublishTarget::Keys(self.keys.clone())
    }

    fn publisher(&self) -> Publisher {
        Publisher { peer: Some(self.peer), encoder: self.agent.clone(), app: Secret::new(&*self.app) }
    }

    fn log_budget(&self) -> Arc<LogBudget> {
        self.handles.log.clone()
    }

    fn accept(self: Box<Self>, admitted: &mut Admitted) -> BoxFuture<'_, Result<Option<Source>, Fault>> {
        Box::pin(async move {
            let accept = self.acceptable(admitted).await;
            let (key, resource_id) = (admitted.key().clone(), admitted.resource_id().clone());
            let ws_url = admitted.ws_url().to_owned();
            Request::accept(*self, &key, resource_id, &ws_url, &accept).await.map(Some)
        })
    }

    fn reject(self: Box<Self>, fault: Fault) {
        Request::reject(*self, &fault);
    }
}

/// The answer to an accepted offer (RFC 9725 §4.2). The path holds the key, like the Go ingress's does: clients that show
/// it only once still find their session.
fn created(app: &str, key: &Secret, resource: &ResourceId, etag: &str, sdp: String) -> Response {
    let mut response = Response::new(Body::from(sdp));
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/{app}/{}/{resource}", key.expose());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(answers::ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    for (name, value) in [(LOCATION, location.as_str()), (ETAG, etag)] {
        // Keys and paths came in a header or a request line themselves, so they fit into one.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}
