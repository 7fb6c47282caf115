//! Sends the caller's request to where the plugin likes. The configuration says where.

use stile_sdk::{prelude::*, types::Upstream};

#[config]
struct Place {
    url: String,
}

#[plugin(config = Self)]
impl Place {
    #[pre]
    fn attack(&self, request: &mut Request) {
        request.set_upstream(Upstream::Origin(self.url.clone()));
    }
}
