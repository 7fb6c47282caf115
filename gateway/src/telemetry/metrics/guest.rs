//! What plugins declare and write themselves.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use super::Labels;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::text::escaped;

/// The kinds of metrics that a plugin may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestMetricKind {
    /// Only grows.
    Counter,
    /// A distribution.
    Histogram,
}

/// What a plugin of an API declares and writes itself.
#[derive(Debug)]
pub struct GuestMetrics {
    labels: Labels,
    families: Arc<GuestFamilies>,
    declared: Mutex<HashMap<String, GuestMetric>>,
    refused: Counter,
}

impl GuestMetric {
    const fn kind(&self) -> GuestMetricKind {
        match self {
            Self::Counter(_) => GuestMetricKind::Counter,
            Self::Histogram(_) => GuestMetricKind::Histogram,
        }
    }
}

/// Why a plugin cannot have a metric that it declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricRefused {
    /// The page cannot have one name with two kinds.
    #[error("a metric of this name has another kind already")]
    OtherKind,
    /// It declares too many.
    #[error("there are {GUEST_METRICS_MAX} metrics of this plugin already")]
    TooMany,
}

#[derive(Debug, Clone)]
enum GuestMetric {
    Counter(Counter),
    Histogram(Histogram),
}

impl GuestMetrics {
    pub(super) fn new(labels: Labels, families: Arc<GuestFamilies>, refused: Counter) -> Self {
        Self { labels, families, declared: Mutex::default(), refused }
    }

    /// Makes a metric known. One that is refused is counted, and for the plugin it is not there.
    pub fn declare(&self, name: &str, kind: GuestMetricKind, help: &str) -> Result<(), MetricRefused> {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match declared.get(name) {
            Some(metric) if metric.kind() == kind => return Ok(()),
            Some(_) => Err(MetricRefused::OtherKind),
            None if declared.len() >= GUEST_METRICS_MAX => Err(MetricRefused::TooMany),
            None => self.families.get(name, kind, help, &self.labels).ok_or(MetricRefused::OtherKind),
        };
        match made {
            Ok(metric) => {
                declared.insert(name.to_owned(), metric);
                Ok(())
            }
            Err(refused) => {
                self.refused.inc();
                Err(refused)
            }
        }
    }

    /// Adds to a counter; false if there is none of this name.
    pub fn add(&self, counter: &str, by: u64) -> bool {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(GuestMetric::Counter(counter)) = declared.get(counter) else { return false };
        counter.inc_by(by);
        true
    }

    /// Adds to a histogram; false if there is none of this name.
    pub fn observe(&self, histogram: &str, value: f64) -> bool {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(GuestMetric::Histogram(histogram)) = declared.get(histogram) else { return false };
        histogram.observe(value);
        true
    }
}

/// Families of plugins, by name: two plugins may declare one name, with labels apart.
#[derive(Debug, Default)]
pub(super) struct GuestFamilies(Mutex<HashMap<String, GuestFamily>>);

#[derive(Debug)]
struct GuestFamily {
    kind: GuestMetricKind,
    help: String,
    series: Vec<(Labels, GuestMetric)>,
}

impl GuestFamilies {
    fn get(&self, name: &str, kind: GuestMetricKind, help: &str, labels: &Labels) -> Option<GuestMetric> {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || GuestFamily { kind, help: escaped(help, HELP_BYTES_MAX).into_owned(), series: Vec::new() };
        // Apart from the gateway's own families of plugins; counters get `_total` from the encoder.
        let name = if kind == GuestMetricKind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let family = families.entry(format!("plugin_own_{name}")).or_insert_with(new);
        if family.kind != kind {
            return None;
        }
        if let Some((_, metric)) = family.series.iter().find(|(of, _)| of == labels) {
            return Some(metric.clone());
        }
        let metric = match kind {
            GuestMetricKind::Counter => GuestMetric::Counter(Counter::default()),
            GuestMetricKind::Histogram => GuestMetric::Histogram(Histogram::new(&GUEST)),
        };
        family.series.push((labels.clone(), metric.clone()));
        Some(metric)
    }
}

impl Collector for GuestFamilies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeMetric as _;
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            let kind = match family.kind {
                GuestMetricKind::Counter => MetricType::Counter,
                GuestMetricKind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, &family.help, None, kind)?;
            for (labels, series) in &family.series {
                let encoder = metric.encode_family(labels)?;
                match series {
                    GuestMetric::Counter(counter) => counter.encode(encoder)?,
                    GuestMetric::Histogram(histogram) => histogram.encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

const GUEST: [f64; 10] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
const GUEST_METRICS_MAX: usize = 64;
const HELP_BYTES_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::model::id::{ApiId, PluginName};
    use crate::telemetry::metrics::Metrics;

    fn guest(metrics: &Metrics, plugin: &str) -> Arc<GuestMetrics> {
        metrics.guest(&ApiId::parse("orders").unwrap(), &PluginName::parse(plugin).unwrap())
    }

    fn refused(metrics: &Metrics, plugin: &str) -> bool {
        let series = format!("stile_plugin_metrics_refused_total{{api=\"orders\",plugin=\"{plugin}\"}} 1\n");
        metrics.render().contains(&series)
    }

    #[test]
    fn a_name_keeps_the_kind_that_it_was_declared_with_first() {
        let metrics = Metrics::new();
        let (one, two) = (guest(&metrics, "one"), guest(&metrics, "two"));
        assert_eq!(one.declare("seen", GuestMetricKind::Counter, "Seen"), Ok(()));
        assert_eq!(one.declare("seen", GuestMetricKind::Counter, "Seen"), Ok(()));
        assert!(!refused(&metrics, "one") && !refused(&metrics, "two"));

        let other = two.declare("seen", GuestMetricKind::Histogram, "Seen");

        assert_eq!(other, Err(MetricRefused::OtherKind));
        assert!(refused(&metrics, "two") && !refused(&metrics, "one"));
        assert!(one.add("seen", 1) && !two.observe("seen", 1.0));
        assert_eq!(one.declare("seen", GuestMetricKind::Histogram, "Seen"), Err(MetricRefused::OtherKind));
        assert!(refused(&metrics, "one"));
    }

    // limit: telemetry::metrics::guest::GUEST_METRICS_MAX
    #[test]
    fn a_plugin_has_so_many_metrics_and_no_more() {
        let metrics = Metrics::new();
        let one = guest(&metrics, "one");
        for n in 0..GUEST_METRICS_MAX {
            assert_eq!(one.declare(&format!("m{n}"), GuestMetricKind::Counter, ""), Ok(()));
        }
        assert!(!refused(&metrics, "one"));
        assert_eq!(one.declare("more", GuestMetricKind::Counter, ""), Err(MetricRefused::TooMany));
        assert!(refused(&metrics, "one"));
    }
}
