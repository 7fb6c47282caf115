//! Values that their owners keep, read when the page is asked for.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::Labels;

/// How a value that is read for the page behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Reads values, each with its labels.
pub(super) type Read = Box<dyn Fn() -> Vec<(Labels, f64)> + Send + Sync>;

#[derive(Default)]
pub(super) struct Readers(Mutex<Vec<Reader>>);

struct Reader {
    name: &'static str,
    help: &'static str,
    kind: ReaderKind,
    reads: Vec<Read>,
}

impl Readers {
    pub(super) fn add(&self, name: &'static str, help: &'static str, kind: ReaderKind, read: Read) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|reader| reader.name == name) {
            Some(reader) => reader.reads.push(read),
            None => all.push(Reader { name, help, kind, reads: vec![read] }),
        }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Collector for Readers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::NoLabelSet;
        let readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter() {
            let kind = match reader.kind {
                ReaderKind::Counter => MetricType::Counter,
                ReaderKind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(reader.name, reader.help, None, kind)?;
            for (labels, value) in reader.reads.iter().flat_map(|read| read()) {
                let mut series = metric.encode_family(&labels)?;
                match reader.kind {
                    ReaderKind::Counter => series.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                    ReaderKind::Gauge => series.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }
}
