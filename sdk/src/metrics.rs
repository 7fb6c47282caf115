//! Metrics on the gateway's metrics page, declared with `counters(…)` and `histograms(…)`. Capability `metrics`.

pub use crate::bindings::base::stile::plugin::metrics::Error;

/// Adds to a counter.
///
/// # Errors
/// The counter is not declared.
pub fn add(counter: &str, by: u64) -> Result<(), Error> {
    host::add(counter, by)
}

/// Adds a value to a histogram.
///
/// # Errors
/// The histogram is not declared, or the value is not a number.
pub fn observe(histogram: &str, value: f64) -> Result<(), Error> {
    host::observe(histogram, value)
}

#[cfg(target_family = "wasm")]
use crate::bindings::base::stile::plugin::metrics as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::host::metrics as host;
