//! Sends one request more than it may.

use stile_sdk::prelude::*;

#[config]
struct Count {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Count {
    #[pre]
    fn attack(&self) -> Reply {
        let sent = (0..9).filter(|_| http::get(self.url.as_str()).send().is_ok()).count();
        Reply::new(200).body(sent.to_string())
    }
}
