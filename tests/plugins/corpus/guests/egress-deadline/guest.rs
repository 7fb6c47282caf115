//! Waits for a server that does not answer for all the time that its call has, and more.

use stile_sdk::prelude::*;

#[config]
struct Deadline {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Deadline {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
