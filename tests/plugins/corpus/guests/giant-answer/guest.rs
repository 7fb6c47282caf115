//! Returns a body of a gigabyte, which the guest does not have.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

fn request(_: &mut Request) -> Result<Action, String> {
    Ok(Reply::new(200).body(giant()).into())
}

fn response(response: &mut Response) {
    response.set_body(giant());
}

fn record(record: &mut Record) {
    record.set_response_body(Some(giant()));
}

/// It is made to be handed to the host, which has to see through it. Nobody in the guest reads or frees it.
fn giant() -> Vec<u8> {
    const LENGTH: usize = 1 << 30;
    // SAFETY: none.
    unsafe { Vec::from_raw_parts(std::ptr::without_provenance_mut(1024), LENGTH, LENGTH) }
}
