//! Metrics of guests on the gateway's page.

use super::{Host, imports};
use imports::metrics::Error;

impl imports::metrics::Host for Host {
    fn add(&mut self, counter: String, by: u64) -> wasmtime::Result<Result<(), Error>> {
        self.charge(counter.len())?;
        Ok(if self.identity()?.metrics.add(&counter, by) { Ok(()) } else { Err(Error::Undeclared) })
    }

    fn observe(&mut self, histogram: String, value: f64) -> wasmtime::Result<Result<(), Error>> {
        self.charge(histogram.len())?;
        if !value.is_finite() {
            return Ok(Err(Error::ValueInvalid));
        }
        Ok(if self.identity()?.metrics.observe(&histogram, value) { Ok(()) } else { Err(Error::Undeclared) })
    }
}
