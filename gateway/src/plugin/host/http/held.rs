//! What a guest's handles hold of the gateway's own memory: it is taken from what the instance may have.
//!
//! What is put in is counted when it comes. What was let go of is found by looking at all that is there, each time that
//! the count has gone up by a share of it: nothing that forgets to count can make it too small for long.

use http::HeaderMap;
use wasmtime::Trap;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};

use super::types::{method_bytes, scheme_bytes};
use super::{CHUNK_BYTES, wasi};
use crate::plugin::host::Host;

/// Bytes behind the handles of an instance.
#[derive(Debug, Default)]
pub(in crate::plugin::host) struct Held {
    /// No more than this: what was there when it was looked at, and all that came since.
    bytes: u64,
    /// Taken of the instance's memory.
    taken: u64,
}

impl Host {
    /// Has room for more bytes behind the guest's handles, or ends the call for want of memory.
    pub(super) fn hold(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let bytes = wide(bytes);
        self.held.bytes = self.held.bytes.saturating_add(bytes);
        if self.held.bytes <= self.held.taken {
            return Ok(());
        }
        let most = usize::try_from(self.limits.outgoing_header_bytes_max).unwrap_or(usize::MAX);
        let table = wasi::table(&mut self.wasi, &mut self.output, &self.limits);
        let found = table.iter_mut().map(|entry| wide(behind(entry, most))).sum::<u64>().saturating_add(bytes);
        // With room for a quarter more, so that looking costs little beside what is put in.
        let room = found.saturating_add(found / 4).checked_next_multiple_of(STEP_BYTES).unwrap_or(u64::MAX);
        let missing = room.saturating_sub(self.held.taken);
        if !self.limiter.take(missing) {
            return Err(Trap::AllocationTooLarge.into());
        }
        self.held.bytes = found;
        self.held.taken = self.held.taken.saturating_add(missing);
        Ok(())
    }
}

/// Bytes behind one handle. A request that was sent counts as one with about all that it may have: there are as few of
/// them as a call may send, and they end with it.
fn behind(entry: &dyn std::any::Any, header_bytes_max: usize) -> usize {
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        fields_bytes(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let texts =
            [&request.authority, &request.path_with_query].into_iter().flatten().map(String::len).sum::<usize>();
        let body = request.body.as_ref().map_or(0, |_| BODY_BYTES);
        let words = method_bytes(&request.method).saturating_add(request.scheme.as_ref().map_or(0, scheme_bytes));
        fields_bytes(&request.headers).saturating_add(texts).saturating_add(words).saturating_add(body)
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        fields_bytes(&response.headers).saturating_add(response.body.as_ref().map_or(0, |_| BODY_BYTES))
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        fields_bytes(&response.headers)
    } else if entry.is::<HostFutureIncomingResponse>() {
        header_bytes_max.saturating_mul(2).saturating_add(BODY_BYTES)
    } else {
        0
    }
}

/// Bytes that header fields take.
pub(super) fn fields_bytes(fields: &HeaderMap) -> usize {
    let fields = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    fields.fold(MAP_BYTES, usize::saturating_add)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// An empty map.
pub(super) const MAP_BYTES: usize = 256;
/// Beside its name and value, what a field takes of a map that has just doubled its room.
pub(super) const FIELD_BYTES: usize = 256;
/// What a body has room for on its way out: a chunk, and the one before it.
pub(super) const BODY_BYTES: usize = 2 * CHUNK_BYTES;

const STEP_BYTES: u64 = 16 << 10;
