//! Families as tables: one row says the field, the kind, the name, the labels, the buckets and the
//! help text of a family, and everything else follows from it.
//!
//! Must not know: which families there are.
//! Caveat: a name that is malformed or registered twice panics. Every name is a literal of a
//! table, so a test that builds `Metrics` once sees each of them.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

/// Declares a group of families: `field: kind "name" ["label", …] {first, factor, count} "help";`,
/// where only kinds that end in `_vec` have labels and only histograms have (exponential) buckets.
macro_rules! families {
    (
        $(#[$doc:meta])*
        pub struct $group:ident {
            $(
                $(#[$field_doc:meta])*
                $visible:vis $field:ident: $kind:ident $name:literal
                    $([$($label:literal),+])? $({$first:literal, $factor:literal, $count:literal})?
                    $help:literal;
            )*
        }
    ) => {
        $(#[$doc])*
        pub struct $group {
            $($(#[$field_doc])* $visible $field: $crate::metrics::family::kind::$kind,)*
        }

        impl $group {
            pub(in crate::metrics) fn new(r: &prometheus::Registry) -> Self {
                Self {
                    $($field: $crate::metrics::family::$kind(
                        r,
                        $name,
                        $help,
                        $(&[$($label),+],)?
                        $([$first, $factor, $count as f64],)?
                    ),)*
                }
            }

            /// Every row: name, kind, labels, help.
            #[cfg(test)]
            pub(in crate::metrics) const ROWS: &[$crate::metrics::family::Row] = &[
                $(($name, stringify!($kind), &[$($($label),+)?], $help),)*
            ];
        }
    };
}

/// A row of a table: name, kind, labels, help.
#[cfg(test)]
pub(super) type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

/// What a family of each kind is.
#[expect(non_camel_case_types, reason = "named as the kinds are in the tables")]
pub(super) mod kind {
    pub type counter = prometheus::IntCounter;
    pub type counter_vec = prometheus::IntCounterVec;
    pub type gauge = prometheus::IntGauge;
    pub type gauge_vec = prometheus::IntGaugeVec;
    pub type histogram = prometheus::Histogram;
    pub type histogram_vec = prometheus::HistogramVec;
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    built: prometheus::Result<C>,
) -> C {
    let collector = built.expect("the literal name and labels are well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("each family is registered once");
    collector
}

pub(super) fn counter(r: &Registry, name: &str, help: &str) -> IntCounter {
    register(r, IntCounter::new(name, help))
}

pub(super) fn counter_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(r, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    register(r, IntGauge::new(name, help))
}

pub(super) fn gauge_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels))
}

/// First bound, factor, and how many bounds.
type Buckets = [f64; 3];

pub(super) fn histogram(r: &Registry, name: &str, help: &str, buckets: Buckets) -> Histogram {
    register(r, Histogram::with_opts(options(name, help, buckets)))
}

pub(super) fn histogram_vec(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Buckets,
) -> HistogramVec {
    register(r, HistogramVec::new(options(name, help, buckets), labels))
}

fn options(name: &str, help: &str, [first, factor, count]: Buckets) -> HistogramOpts {
    let buckets = exponential_buckets(first, factor, count as usize);
    let buckets = buckets.expect("literal buckets are well formed");
    HistogramOpts::new(name, help).buckets(buckets)
}
