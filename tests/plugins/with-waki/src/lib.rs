//! Sends requests with a library for `wasi:http` that knows nothing of Stile.

use stile_sdk::prelude::*;

#[config]
struct Config {
    url: String,
}

#[plugin(config = Self, capabilities(outgoing_http = "asks a server"))]
impl Config {
    #[pre]
    fn ask(&self) -> Result<Reply, String> {
        let sent = waki::Client::new().post(&self.url).header("x-from", "waki").body("hello").send();
        let answer = sent.map_err(|error| format!("{error:#}"))?;
        let (status, body) = (answer.status_code(), answer.body().map_err(|error| format!("{error:#}"))?);
        Ok(Reply::new(status).body(body))
    }
}
