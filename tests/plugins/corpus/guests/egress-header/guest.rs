//! Sends a field that is the connection's, or one with another one in it. The configuration says which.

use stile_sdk::prelude::*;

#[config]
struct Field {
    url: String,
    name: String,
    value: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Field {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).header(self.name.as_str(), self.value.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
