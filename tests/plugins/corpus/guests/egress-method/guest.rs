//! Asks for a tunnel, or has the server repeat what the gateway sent.

use stile_sdk::prelude::*;

#[config]
struct Other {
    method: String,
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Other {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::Request::new(self.method.as_str(), self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
