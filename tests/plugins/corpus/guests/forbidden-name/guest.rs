//! Sets a field that is the connection's, or the gateway's. The configuration says which.

use stile_sdk::prelude::*;

#[config]
struct Name {
    name: String,
    value: String,
}

#[plugin(config = Self)]
impl Name {
    #[pre]
    fn attack(&self, request: &mut Request) {
        request.headers.set(self.name.as_str(), self.value.as_str());
    }

    #[auth(name = "attack")]
    fn in_auth(&self, request: &mut Request) -> AuthAction {
        self.attack(request);
        AuthAction::Authenticated(Session::new("guest"))
    }

    #[endpoint(name = "attack")]
    fn as_reply(&self) -> Reply {
        Reply::new(200).header(self.name.as_str(), self.value.as_str())
    }

    #[response(name = "attack")]
    fn in_response(&self, response: &mut Response) {
        response.headers.set(self.name.as_str(), self.value.as_str());
    }
}
