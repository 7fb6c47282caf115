//! Returns a hundred thousand header fields of one byte.

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

const MANY: usize = 100_000;

fn request(request: &mut Request) -> Result<Action, String> {
    (0..MANY).for_each(|_| request.headers.append("x", ""));
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    (0..MANY).for_each(|_| response.headers.append("x", ""));
}

fn record(record: &mut Record) {
    (0..MANY).for_each(|_| record.set_request_header("x", ""));
}
