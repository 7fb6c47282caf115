//! Asks a name that is good whenever it is looked at, and another address when it is connected to.

use stile_sdk::prelude::*;

#[config]
struct Rebind {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Rebind {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
