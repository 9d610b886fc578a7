//! What every input yields: a publisher that waits for its answer.

use crate::boxed::BoxFuture;
use crate::control::Resolved;
use crate::sessions::admitted::Admitted;
use model::{Fault, IngressSpec, InputKind, LogBudget, Secret};
use session::Source;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a publisher asks for.
#[derive(Clone, Debug)]
pub enum PublishTarget {
    /// The ingress of the first of these stream keys that exists.
    Keys(Vec<Secret>),
    /// This ingress: the control plane has found it and chosen this machine.
    Ingress(Box<Resolved>),
}

/// Who publishes, for log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// Its address. `None` where the control plane asks for it.
    pub peer: Option<SocketAddr>,
    /// Its program, as it calls itself; empty where unknown.
    pub encoder: String,
    /// The application that it named; empty where the protocol has none. It prints redacted: people paste keys anywhere in a path.
    pub app: Secret,
}

/// A publisher that waits for its answer: a push with a stream key, or a URL to be pulled.
///
/// [`Admission::admit`](crate::admission::Admission::admit) decides, logs and counts. If a request is dropped, its
/// publisher is refused with a transient fault.
pub trait PublishRequest: Send {
    /// How its media comes in.
    fn input(&self) -> InputKind;

    /// What it asks for.
    fn wanted(&self) -> PublishTarget;

    /// Who it is.
    fn publisher(&self) -> Publisher;

    /// The bound on log lines about publishers of this input that are refused.
    fn log_budget(&self) -> Arc<LogBudget>;

    /// Whether this input can begin with what the ingress asks for; asked before anything is reserved.
    ///
    /// # Errors
    /// The ingress is for another input, or can't be used.
    fn check(&self, spec: &IngressSpec) -> Result<(), Fault> {
        spec.expect_input(self.input())
    }

    /// Lets the publisher begin. `None` where nothing begins, because what was asked for runs already.
    ///
    /// # Errors
    /// Why the publisher can't begin after all. It was answered.
    fn accept(self: Box<Self>, admitted: &mut Admitted) -> BoxFuture<'_, Result<Option<Source>, Fault>>;

    /// Sends the publisher away with the fault's public text.
    fn reject(self: Box<Self>, fault: Fault);
}
