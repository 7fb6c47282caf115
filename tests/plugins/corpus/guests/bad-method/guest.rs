//! Sends the request with a method that is none, or that opens a tunnel.

use stile_sdk::{prelude::*, types::Method};

#[config]
struct Config {
    method: String,
}

struct Other(Config);

#[plugin(config = Config)]
impl Other {
    #[pre]
    fn attack(&self, request: &mut Request) {
        request.set_method(Method::Other(self.0.method.clone()));
    }
}
