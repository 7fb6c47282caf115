//! Hands the host five gigabytes in values of one megabyte, which are all the same one.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use std::mem::ManuallyDrop;

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

fn request(request: &mut Request) -> Result<Action, String> {
    aliases(|value| request.headers.append("x-alias", value));
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    aliases(|value| response.headers.append("x-alias", value));
}

fn record(record: &mut Record) {
    aliases(|value| record.set_request_header("x-alias", value));
}

fn aliases(mut each: impl FnMut(Vec<u8>)) {
    let megabyte = ManuallyDrop::new(vec![b'a'; 1 << 20]);
    for _ in 0..5_000 {
        // SAFETY: none. Nobody in the guest reads or frees it.
        each(unsafe { Vec::from_raw_parts(megabyte.as_ptr().cast_mut(), megabyte.len(), megabyte.len()) });
    }
}
