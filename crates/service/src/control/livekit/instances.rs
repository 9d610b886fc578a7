//! The records of instances, in a hash in Redis beside what livekit-server keeps there.

use super::convert;
use crate::boxed::BoxFuture;
use crate::control::{Instances, RECORDS_KEPT, Record, RecordedSession, StoredRecord};
use bytes::Bytes;
use livekit_protocol as lk;
use model::{Blame, Fault, IngressId, ResourceId};
use prost::Message;
use psrpc::{Bus, BusError};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The hash: instance → record. Named as livekit-server names what it stores of ingresses.
const KEY: &str = "{ingress}_instances";

/// What is locked while an instance's sessions are put right; the instance's name follows.
const CLAIM: &str = "{ingress}_instance_claim:";

/// How long Redis may take. As long as a call to livekit-server.
const DEADLINE: Duration = Duration::from_secs(3);

/// See the [module](self).
pub(super) struct RedisInstances(pub(super) Arc<dyn Bus>);

impl RedisInstances {
    async fn within<T>(&self, work: impl Future<Output = Result<T, BusError>>) -> Result<T, Fault> {
        match timeout(DEADLINE, work).await {
            Ok(done) => done.map_err(|error| Fault::transient(Blame::Control, error.to_string())),
            Err(_) => Err(Fault::transient(Blame::Control, format!("{} is not reachable", self.0.name()))),
        }
    }
}

impl Instances for RedisInstances {
    fn write<'a>(&'a self, instance: &'a str, record: &'a Record) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(self.within(self.0.hash_set(KEY, instance, encode(record), RECORDS_KEPT)))
    }

    fn read(&self) -> BoxFuture<'_, Result<Vec<StoredRecord>, Fault>> {
        Box::pin(async {
            let fields = self.within(self.0.hash_read(KEY)).await?;
            let stored = |(instance, bytes): (String, Bytes)| {
                let record = decode(&bytes);
                StoredRecord { instance, bytes, record }
            };
            Ok(fields.into_iter().map(stored).collect())
        })
    }

    fn remove<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.within(self.0.hash_remove(KEY, instance)))
    }

    fn claim<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let key = format!("{CLAIM}{instance}");
            self.within(self.0.lock(&key)).await
        })
    }
}

/// A [`Record`] as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct WireRecord {
    #[prost(uint64, tag = "1")]
    beat: u64,
    #[prost(uint32, tag = "2")]
    good_for_ms: u32,
    #[prost(bool, tag = "3")]
    ended: bool,
    #[prost(message, repeated, tag = "4")]
    sessions: Vec<WireSession>,
}

/// A [`RecordedSession`] as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct WireSession {
    #[prost(string, tag = "1")]
    ingress_id: String,
    #[prost(string, tag = "2")]
    resource_id: String,
    #[prost(int64, tag = "3")]
    started_at: i64,
    #[prost(message, optional, tag = "4")]
    end: Option<lk::IngressState>,
}

fn encode(record: &Record) -> Bytes {
    let session = |session: &RecordedSession| WireSession {
        ingress_id: session.ingress_id.0.clone(),
        resource_id: session.resource_id.0.clone(),
        started_at: session.started_at,
        end: session.end.as_ref().map(convert::state),
    };
    let record = WireRecord {
        beat: record.beat,
        good_for_ms: u32::try_from(record.good_for.as_millis()).unwrap_or(u32::MAX),
        ended: record.ended,
        sessions: record.sessions.iter().map(session).collect(),
    };
    record.encode_to_vec().into()
}

/// Reads a record. `None` if it is none, or says nothing of how long it is good: that of a version to come.
fn decode(bytes: &[u8]) -> Option<Record> {
    let WireRecord { beat, good_for_ms, ended, sessions } = WireRecord::decode(bytes).ok()?;
    let session = |session: WireSession| {
        let WireSession { ingress_id, resource_id, started_at, end } = session;
        let end = end.as_ref().and_then(convert::report).filter(|end| end.status.is_final());
        RecordedSession { ingress_id: IngressId(ingress_id), resource_id: ResourceId(resource_id), started_at, end }
    };
    let good_for = Duration::from_millis(good_for_ms.into());
    let sessions = sessions.into_iter().map(session).collect();
    (good_for_ms > 0).then_some(Record { beat, good_for, ended, sessions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use psrpc::memory::MemoryBus;
    use session::{Report, Status};
    use std::time::SystemTime;

    fn record() -> Record {
        let id = ResourceId("RT_a".into());
        let end = Report::first(id.clone(), Status::Error, "words".into(), SystemTime::UNIX_EPOCH);
        let session = |end| RecordedSession {
            ingress_id: IngressId("IN_x".into()),
            resource_id: id.clone(),
            started_at: i64::MAX,
            end,
        };
        let sessions = vec![session(None), session(Some(end))];
        Record { beat: u64::MAX, good_for: Duration::from_secs(20), ended: true, sessions }
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_read_as_they_were_written() {
        let bus = MemoryBus::new();
        let instances = RedisInstances(bus.clone());
        assert!(instances.write("NE_a", &record()).await.unwrap());
        assert!(!instances.write("NE_a", &record()).await.unwrap());
        bus.hash_set(KEY, "NE_b", "\u{1}".into(), RECORDS_KEPT).await.unwrap();
        let found = instances.read().await.unwrap();
        let read = |i: usize| (found[i].instance.as_str(), found[i].record.clone());
        assert_eq!((found.len(), read(0), read(1)), (2, ("NE_a", Some(record())), ("NE_b", None)));
        instances.remove("NE_a").await.unwrap();
        assert_eq!(instances.read().await.unwrap().len(), 1);
        assert!(instances.claim("NE_b").await.unwrap() && !instances.claim("NE_b").await.unwrap());
        assert!(instances.claim("NE_a").await.unwrap());
        bus.set_down(Some("gone"));
        assert!(instances.read().await.unwrap_err().retry, "it ends, though the bus is down");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&record)).unwrap(), record);
            }
        }
    }
}
