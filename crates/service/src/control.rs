//! The control plane: who may publish where, what the service reports of its sessions, and what it is commanded to do with them.
//!
//! [`ControlPlane`] is a trait in our own terms, so that the service runs against livekit-server (RPC over Redis, [`livekit`])
//! and against a control plane within the process ([`embedded`]). Messages of the wire stay in `livekit`.

pub mod embedded;
mod instances;
mod key_lookups;
pub mod livekit;
mod plane;
mod whip;

pub use instances::{Instances, RECORDS_KEPT, Record, RecordedSession, StoredRecord};
pub(crate) use plane::store_refusal;
pub use plane::{
    Affinity, COMMAND_QUEUE, ControlPlane, CreateIngress, HandOverError, ReportError, Resolved, START_QUEUE,
    ServeGuard, SessionCommand, SessionCommands, SessionList, StartRequest, StartRequests, StateReply, StoredIngress,
    Wanted, started_after,
};
pub use whip::{WhipAnswer, WhipHandler, WhipRefusal, WhipRefusalKind, WhipRequest};
