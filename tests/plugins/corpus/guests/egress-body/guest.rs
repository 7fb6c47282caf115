//! Sends a body that is longer than it may be.

use stile_sdk::prelude::*;

#[config]
struct Body {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Body {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::post(self.url.as_str()).body(vec![b'x'; 300_000]).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
