//! Has a server answer with more than it may take, or slower than it may wait.

use stile_sdk::prelude::*;

#[config]
struct Answer {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Answer {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
