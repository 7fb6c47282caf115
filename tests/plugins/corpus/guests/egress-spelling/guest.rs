//! Asks a place by another spelling of its address. The configuration says which.

use stile_sdk::prelude::*;

#[config]
struct Spelling {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Spelling {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
