//! A future behind a trait object, as traits with `dyn` return it.

use std::future::Future;
use std::pin::Pin;

/// A future that somebody else made.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
