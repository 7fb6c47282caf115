//! Randomness for guests: WASI's own, with what one call may take measured over all its requests.

use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::{Host, HostLimit};

impl Host {
    fn charge_random(&mut self, bytes: u64) -> wasmtime::Result<()> {
        let left = self.random_bytes_left.checked_sub(bytes);
        self.owe(bytes);
        self.random_bytes_left = left.ok_or(HostLimit("more random bytes than `random_bytes_max`"))?;
        Ok(())
    }
}

impl random::Host for Host {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.charge_random(len)?;
        self.ctx().ctx.random().get_random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.charge_random(NUMBER_BYTES)?;
        self.ctx().ctx.random().get_random_u64()
    }
}

impl insecure::Host for Host {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.charge_random(len)?;
        self.ctx().ctx.random().get_insecure_random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.charge_random(NUMBER_BYTES)?;
        self.ctx().ctx.random().get_insecure_random_u64()
    }
}

impl insecure_seed::Host for Host {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.charge_random(2 * NUMBER_BYTES)?;
        self.ctx().ctx.random().insecure_seed()
    }
}

const NUMBER_BYTES: u64 = 8;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use insecure::Host as _;
    use insecure_seed::Host as _;
    use random::Host as _;

    use super::*;
    use crate::model::plugin::Limits;
    use crate::plugin::limits::MemoryBudget;

    #[test]
    fn a_call_has_so_many_random_bytes_in_all() {
        let limits = Arc::new(Limits { random_bytes_max: 100, ..Limits::default() });
        let mut host = Host::new(limits, None, Arc::new(MemoryBudget::new(0)));
        for _ in 0..2 {
            host.begin_call(Instant::now());
            assert_eq!(host.get_random_bytes(60).unwrap().len(), 60);
            assert_eq!(host.get_insecure_random_bytes(8).unwrap().len(), 8);
            host.get_random_u64().unwrap();
            host.get_insecure_random_u64().unwrap();
            host.insecure_seed().unwrap();
            assert!(host.get_random_bytes(1).unwrap_err().is::<HostLimit>());
            assert!(host.get_insecure_random_u64().unwrap_err().is::<HostLimit>());
        }
        host.begin_call(Instant::now());
        assert!(host.get_random_bytes(u64::MAX).unwrap_err().is::<HostLimit>());
    }
}
