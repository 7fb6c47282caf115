//! Puts a second field into the value of the first.

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

const VALUE: &str = "1\r\nx-smuggled: 2";

fn request(request: &mut Request) -> Result<Action, String> {
    request.headers.set("x-a", VALUE);
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    response.headers.set("x-a", VALUE);
}

fn record(record: &mut Record) {
    record.set_request_header("x-a", VALUE);
}
