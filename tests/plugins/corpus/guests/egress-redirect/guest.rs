//! Goes where a server that it may ask sends it.

use stile_sdk::prelude::*;

#[config]
struct Redirect {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out"))]
impl Redirect {
    #[pre]
    fn attack(&self) -> Result<Reply, String> {
        let answer = http::get(self.url.as_str()).send()?;
        let told = http::get(answer.header_text("location").unwrap_or_default()).send();
        let told = told.map_or_else(|error| error.to_string(), |answer| answer.status.to_string());
        Ok(Reply::new(200).body(format!("{}, {told}", answer.status)))
    }
}
