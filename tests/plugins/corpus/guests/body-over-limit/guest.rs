//! Returns a body of one byte more than it may.

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

fn request(request: &mut Request) -> Result<Action, String> {
    request.set_body(body());
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    response.set_body(body());
}

fn record(record: &mut Record) {
    record.set_response_body(Some(body()));
}

/// Above the default of `body_out_bytes_max`.
fn body() -> Vec<u8> {
    vec![b'x'; (4 << 20) + 1]
}
