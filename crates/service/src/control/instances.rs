//! What instances of this service tell each other, so that the sessions of one that is gone are put right: a record per instance,
//! written again and again while it lives.

use crate::boxed::BoxFuture;
use bytes::Bytes;
use model::{Fault, IngressId, ResourceId};
use session::Report;
use std::time::Duration;

/// How long a record is kept if nobody writes any: longer than any outage after which somebody may still start again.
pub const RECORDS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Counts the writings: a record that does not change is that of an instance that is gone.
    pub beat: u64,
    /// For how long it is good without a change, by the clock of who looks at it. No two clocks are ever compared.
    pub good_for: Duration,
    /// The instance has ended and will not change it any more.
    pub ended: bool,
    /// Its sessions, and those that have ended and whose end is not stored yet.
    pub sessions: Vec<RecordedSession>,
}

/// A session in a [`Record`].
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSession {
    /// Its ingress.
    pub ingress_id: IngressId,
    /// The session.
    pub resource_id: ResourceId,
    /// When it began, in Unix nanoseconds, as in its reports.
    pub started_at: i64,
    /// Its last report, where it has ended and that could not be stored so far.
    pub end: Option<Report>,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// Whose it is.
    pub instance: String,
    /// Its bytes: they change with each writing.
    pub bytes: Bytes,
    /// What they say. `None` where they can't be read: another version's.
    pub record: Option<Record>,
}

/// The records of all instances. Each call ends within its deadline, tries once, and may be dropped at any time.
pub trait Instances: Send + Sync {
    /// Writes the record of this instance. True where there was none: it is the first, or somebody has removed it, or it was
    /// lost.
    fn write<'a>(&'a self, instance: &'a str, record: &'a Record) -> BoxFuture<'a, Result<bool, Fault>>;

    /// All records.
    fn read(&self) -> BoxFuture<'_, Result<Vec<StoredRecord>, Fault>>;

    /// Removes a record, if it is there.
    fn remove<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), Fault>>;

    /// Takes it upon this instance to put the sessions of another right; true for the first who asks within some seconds.
    fn claim<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<bool, Fault>>;
}
