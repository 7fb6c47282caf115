//! Sends a request before it is called, and another one when it sees what all callers sent.

use stile_sdk::prelude::*;

#[config]
struct Config {
    url: String,
}

struct Init(String, String);

#[plugin(capabilities(outgoing_http = "to get out"))]
impl Init {
    fn new(config: Config) -> Self {
        let told = http::get(config.url.as_str()).send();
        Self(config.url, told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string()))
    }

    #[pre]
    fn attack(&self) -> Reply {
        Reply::new(200).body(self.1.clone())
    }

    #[analytics(name = "attack")]
    fn in_analytics(&self, record: &mut Record) -> Result<(), String> {
        record.add_tag("seen");
        http::get(self.0.as_str()).send().map(drop).map_err(|error| error.to_string())
    }
}
