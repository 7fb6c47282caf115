//! Asks a listed name whose addresses are not what the operator thought of.

use stile_sdk::prelude::*;

#[config]
struct Name {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Name {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
