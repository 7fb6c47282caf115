//! Sends the request to a path that is none, or that two servers read in two ways.

use stile_sdk::prelude::*;

#[config]
struct Path {
    path: String,
}

#[plugin(config = Self)]
impl Path {
    #[pre]
    fn attack(&self, request: &mut Request) {
        request.set_path(self.path.as_str());
    }

    #[auth(name = "attack")]
    fn in_auth(&self, request: &mut Request) -> AuthAction {
        self.attack(request);
        AuthAction::Authenticated(Session::new("guest"))
    }
}
