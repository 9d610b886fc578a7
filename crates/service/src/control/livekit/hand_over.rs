//! The other side of `IngressInternal.StartIngress`: an instance that drains asks the others to go on with what it pulls, as
//! livekit-server asks for what is new.
//!
//! The request holds the state of the session that runs, where livekit-server's is empty. It tells the other side that the ingress is
//! known already, and after what its own session has to begin. A Go ingress does not look at it: it has the ingress stored as new, which
//! livekit-server (1.13.5) refuses beside a newer state, so that it answers with a failure and the pull goes on here.

use super::{GET_INGRESS_INFO, LiveKit, START_INGRESS, convert};
use crate::control::HandOverError;
use livekit_protocol as lk;
use model::{Blame, Fault, IngressId};
use proto::{GetIngressInfoRequest, GetIngressInfoResponse, StartIngressRequest};
use psrpc::{Code, Error, Options};
use session::Report;

/// What an instance that can go on with a pull bids on top of what it bids for any: more than a Go ingress, which can't.
pub(super) const BID: f32 = 1_000.0;

/// Whether this request hands over a session that runs.
pub(super) fn is_one(request: &StartIngressRequest) -> bool {
    let stored = request.info.as_ref().and_then(convert::stored_state);
    stored.is_some_and(|stored| !stored.status.is_final())
}

impl LiveKit {
    /// Asks the other instances; see [`super::ControlPlane::hand_over`].
    pub(super) async fn ask_others(&self, ingress: &IngressId, state: &Report) -> Result<Report, HandOverError> {
        let request = self.request(ingress, state).await?;
        let taken = self.others.call(&START_INGRESS, "", &request, &Options::default()).await;
        let info = taken.map_err(|error| refused(&error, self.bus.name()))?;
        let nonsense = || Fault::new(Blame::Control, "another instance answered with an unknown state");
        convert::stored_state(&info).ok_or_else(|| HandOverError::Unclear(nonsense()))
    }

    /// What livekit-server would send, with what it has stored, and with its token where it gives one.
    async fn request(&self, ingress: &IngressId, state: &Report) -> Result<StartIngressRequest, HandOverError> {
        let request = GetIngressInfoRequest { ingress_id: ingress.0.clone(), ..Default::default() };
        let found: GetIngressInfoResponse =
            self.io.call(&GET_INGRESS_INFO, &request).await.map_err(|error| match error.code() {
                Code::NotFound => HandOverError::Deleted,
                _ => HandOverError::NotTaken(convert::fault(&error, self.bus.name())),
            })?;
        let GetIngressInfoResponse { info, token, ws_url, logging_fields, feature_flags, project_id: _ } = found;
        let is_ours = |info: &lk::IngressInfo| {
            convert::stored_state(info).is_some_and(|stored| stored.resource_id == state.resource_id)
        };
        let other = || HandOverError::NotTaken(Fault::new(Blame::Control, "what is stored is another session's"));
        let mut info = info.filter(is_ours).ok_or_else(other)?;
        info.state = Some(convert::state(state));
        Ok(StartIngressRequest { info: Some(info), token, ws_url, logging_fields, feature_flags })
    }
}

/// What a call that ended with this error means for the pull. `bus` names Redis.
fn refused(error: &Error, bus: &str) -> HandOverError {
    match error {
        Error::NoServers { .. } | Error::NoneWilling { .. } => HandOverError::NotTaken(Fault::transient(
            Blame::Capacity,
            format!("no other instance has room for it, or is connected to the same Redis ({bus})"),
        )),
        // Its handler was given up: what it had begun by then goes on.
        Error::TimedOut | Error::MalformedResult(_) => HandOverError::Unclear(convert::fault(error, bus)),
        Error::Remote(failure) if failure.code == Code::DeadlineExceeded => {
            HandOverError::Unclear(Fault::transient(Blame::Control, "the instance that took it did not answer in time"))
        }
        Error::Remote(failure) => {
            HandOverError::NotTaken(Fault::new(Blame::Control, format!("another instance refused: {failure}")))
        }
        // Also where the choice could not be published: nobody begins without it.
        other => HandOverError::NotTaken(convert::fault(other, bus)),
    }
}
