//! Sets a field whose name is none.

use stile_sdk::prelude::*;

everywhere::answer!(request, response, record);

const NAME: &str = "x y";

fn request(request: &mut Request) -> Result<Action, String> {
    request.headers.set(NAME, "1");
    Ok(Action::Continue)
}

fn response(response: &mut Response) {
    response.headers.set(NAME, "1");
}

fn record(record: &mut Record) {
    record.set_request_header(NAME, "1");
}
