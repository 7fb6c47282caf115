//! Returns a text that is not UTF-8.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

fn request(request: &mut Request) -> Result<Action, String> {
    request.set_path(text());
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    response.headers.set(text(), "1");
}

fn record(record: &mut Record) {
    record.add_tag(text());
}

fn text() -> String {
    // SAFETY: none. Nobody in the guest reads it.
    unsafe { String::from_utf8_unchecked(vec![b'/', 0xff, 0xfe]) }
}
