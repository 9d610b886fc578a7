//! The WHIP sessions of this machine, and what their clients ask of them, directly or through another machine.

use super::headers::IfMatch;
use super::media::Control;
use crate::boxed::BoxFuture;
use crate::control::{ControlPlane, ServeGuard, WhipAnswer, WhipHandler, WhipRefusal, WhipRefusalKind, WhipRequest};
use model::{Blame, Fault, ResourceId, Secret};
use rtc::Refusal;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// See the [module](self). Clones share one list.
#[derive(Clone)]
pub(super) struct Resources {
    all: Arc<Mutex<HashMap<ResourceId, Arc<Resource>>>>,
    /// Bounds the requests for sessions of other machines that are under way.
    asks: Arc<Semaphore>,
}

/// Requests for sessions of other machines that are under way at a time. Each takes some milliseconds; further ones are told to come
/// again.
const MAX_ASKS: usize = 64;

impl Default for Resources {
    fn default() -> Self {
        Self { all: Arc::default(), asks: Arc::new(Semaphore::new(MAX_ASKS)) }
    }
}

/// One session.
struct Resource {
    key: Secret,
    control: Arc<dyn Control>,
}

/// Keeps a session on the list, and reachable from other machines; dropping it takes it off.
pub(super) struct Listed {
    resources: Resources,
    resource: ResourceId,
    _serving: ServeGuard,
}

impl Resources {
    /// Puts a session on the list.
    pub(super) async fn add(
        &self,
        resource: ResourceId,
        key: Secret,
        control: Arc<dyn Control>,
        plane: &dyn ControlPlane,
    ) -> Result<Listed, Fault> {
        let entry = Arc::new(Resource { key, control });
        let for_others = entry.clone();
        let handler: WhipHandler = Arc::new(move |key, request| -> BoxFuture<'static, _> {
            let entry = for_others.clone();
            Box::pin(async move { entry.handle(&key, request).await })
        });
        let serving = plane.serve_whip(&resource, handler).await?;
        self.lock().insert(resource.clone(), entry);
        Ok(Listed { resources: self.clone(), resource, _serving: serving })
    }

    /// Answers a request, here or where the session runs. Each key that was shown is tried. A key that nobody has (its ingress was
    /// deleted) finds no session, as in the Go ingress.
    pub(super) async fn ask(
        &self,
        resource: &ResourceId,
        keys: &[Secret],
        request: WhipRequest,
        plane: &dyn ControlPlane,
    ) -> Result<WhipAnswer, WhipRefusal> {
        let mut refusal = WhipRefusal::gone();
        for key in keys {
            let here = self.lock().get(resource).cloned();
            let answer = match here {
                Some(entry) => Some(entry.handle(key, request.clone()).await),
                None => self.ask_elsewhere(resource, key, request.clone(), plane).await,
            };
            match answer {
                None => {}
                Some(Err(refused)) if refused.why == WhipRefusalKind::WrongKey => refusal = refused,
                Some(answer) => return answer,
            }
        }
        Err(refusal)
    }

    /// Asks the machine where the session runs, if there is one, for somebody who shows the key of an ingress: of a stranger's request
    /// nothing but its key goes on. `None` where nobody has this key.
    async fn ask_elsewhere(
        &self,
        resource: &ResourceId,
        key: &Secret,
        request: WhipRequest,
        plane: &dyn ControlPlane,
    ) -> Option<Result<WhipAnswer, WhipRefusal>> {
        match plane.lookup(key).await {
            Err(fault) if fault.blame == Blame::Unknown => return None,
            Err(fault) if fault.retry => {
                return Some(Err(WhipRefusal::new(WhipRefusalKind::Unreachable, fault.public())));
            }
            // It is somebody's key. What keeps a new session of it from starting does not keep one from being ended.
            Ok(_) | Err(_) => {}
        }
        let Ok(_permit) = self.asks.try_acquire() else {
            let text = "the server is busy; try again in a moment";
            return Some(Err(WhipRefusal::new(WhipRefusalKind::Unreachable, text)));
        };
        Some(plane.ask_whip(resource, key, request).await)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceId, Arc<Resource>>> {
        // Held for single map operations only, which cannot leave it half done.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.resources.lock().remove(&self.resource);
    }
}

impl Resource {
    async fn handle(&self, key: &Secret, request: WhipRequest) -> Result<WhipAnswer, WhipRefusal> {
        // In a time that does not tell how many letters are right.
        if !bool::from(key.expose().as_bytes().ct_eq(self.key.expose().as_bytes())) {
            return Err(wrong_key());
        }
        match request {
            WhipRequest::Delete if self.control.close() => Ok(WhipAnswer::default()),
            WhipRequest::Delete => Err(WhipRefusal::gone()),
            WhipRequest::Ice { if_match, fragment } => self.ice(&IfMatch::read(&if_match), &fragment).await,
        }
    }

    async fn ice(&self, condition: &IfMatch, fragment: &str) -> Result<WhipAnswer, WhipRefusal> {
        match condition {
            IfMatch::Missing => Err(unconditional()),
            IfMatch::Any => {
                let restarted = self.control.restart(fragment).await.map_err(refusal)?;
                Ok(WhipAnswer { fragment: restarted.fragment, etag: etag(&restarted.ice_session) })
            }
            tags if tags.names(&self.control.ice_session()) => {
                self.control.trickle(fragment).await.map_err(refusal)?;
                Ok(WhipAnswer::default())
            }
            IfMatch::Tags(_) => Err(refusal(Refusal::OtherIceSession)),
        }
    }
}

fn wrong_key() -> WhipRefusal {
    WhipRefusal::new(WhipRefusalKind::WrongKey, "this key is not that of the WHIP session")
}

/// The refusal of a request that names no ICE session.
pub(super) fn unconditional() -> WhipRefusal {
    let text = "If-Match is missing: send the ETag of the WHIP session to add candidates, or * to restart ICE";
    WhipRefusal::new(WhipRefusalKind::Unconditional, text)
}

/// The entity tag of an ICE session.
pub(super) fn etag(ice_session: &str) -> String {
    format!("\"{ice_session}\"")
}

/// Why the WebRTC side does not take it.
pub(super) fn refusal(refusal: Refusal) -> WhipRefusal {
    let why = match &refusal {
        Refusal::Unreadable(_) => WhipRefusalKind::Malformed,
        Refusal::OtherIceSession => WhipRefusalKind::OtherIceSession,
        Refusal::Gone => return WhipRefusal::gone(),
        Refusal::Full => WhipRefusalKind::Unreachable,
        _ => WhipRefusalKind::Unprocessable,
    };
    WhipRefusal::new(why, refusal.to_string())
}
