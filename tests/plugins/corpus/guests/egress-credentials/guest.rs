//! Puts a name and a password before the host, which is then not the one that it looks like.

use stile_sdk::prelude::*;

#[config]
struct Credentials {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Credentials {
    #[pre]
    fn attack(&self) -> Reply {
        let told = http::get(self.url.as_str()).send();
        Reply::new(200).body(told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }
}
