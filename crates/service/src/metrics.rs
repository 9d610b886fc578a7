//! Metrics: one registry, made at the start and handed down to all parts that count something, and the page that shows it.
//!
//! The files below register what the whole service counts; `inputs::rtmp` registers its own counters. Series of the Go ingress
//! keep its names and labels; all others begin with `ingress_`, but for those that every Prometheus client has of its process.

mod confinement;
mod control;
mod machine;
mod process;
mod publishes;
mod sessions;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, TextEncoder};
use std::collections::HashMap;

pub(crate) use confinement::register as register_confinement;
pub(crate) use control::register as register_control;
pub use machine::register as register_machine;
pub use process::register as register_process;
pub use publishes::{PublishCounts, PublishStatus};
pub use sessions::SessionMetrics;

/// The content type of [`Registry::page`]: Prometheus's text format, which every scraper takes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The registry of all metrics of this process. Clones share it.
///
/// Names and labels are constants, so registering panics where one is malformed or taken: no input can cause that, and the
/// test that starts the service whole meets it.
#[derive(Clone, Debug, Default)]
pub struct Registry(prometheus::Registry);

/// One sample of a family that is read at each scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label names and values, written in this order.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A sample without labels.
    pub fn bare(value: f64) -> Self {
        Self { labels: Vec::new(), value }
    }
}

impl Registry {
    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help))
    }

    /// A counter for each value of these labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help))
    }

    /// A histogram for each value of these labels, with these upper bounds.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: Vec<f64>) -> HistogramVec {
        self.registered(HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds), labels))
    }

    /// A family of gauges whose samples `read` gives at each scrape; without a sample the family is left out.
    pub fn read_gauges(&self, name: &str, help: &str, read: impl Fn() -> Vec<Sample> + Send + Sync + 'static) {
        self.read(name, help, MetricType::GAUGE, Box::new(read));
    }

    /// The same of counters.
    pub fn read_counters(&self, name: &str, help: &str, read: impl Fn() -> Vec<Sample> + Send + Sync + 'static) {
        self.read(name, help, MetricType::COUNTER, Box::new(read));
    }

    fn read(&self, name: &str, help: &str, kind: MetricType, read: Read) {
        let described = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new());
        let family = described.map(|desc| Family { desc, kind, read });
        let registered = family.and_then(|family| self.0.register(Box::new(family)));
        registered.unwrap_or_else(|error| panic!("the metric {name} can't be registered: {error}"));
    }

    fn registered<M: Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> M {
        let registered = made.and_then(|metric| self.0.register(Box::new(metric.clone())).map(|()| metric));
        registered.unwrap_or_else(|error| panic!("a metric can't be registered: {error}"))
    }

    /// All metrics in the format that [`CONTENT_TYPE`] names, in the order of their names.
    ///
    /// # Errors
    /// A metric can't be encoded.
    pub fn page(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

type Read = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// What is not counted but read at each scrape.
struct Family {
    desc: Desc,
    kind: MetricType,
    read: Read,
}

impl Collector for Family {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric((self.read)().into_iter().map(|sample| metric(self.kind, sample)).collect());
        vec![family]
    }
}

fn metric(kind: MetricType, sample: Sample) -> Metric {
    let label = |(name, value): (&str, String)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value);
        label
    };
    let mut metric = Metric::from_label(sample.labels.into_iter().map(label).collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(sample.value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(sample.value);
        metric.set_gauge(gauge);
    }
    metric
}

#[cfg(test)]
mod tests;
