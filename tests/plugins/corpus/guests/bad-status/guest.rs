//! Answers with a status that is none, or not one for an answer.

use stile_sdk::prelude::*;

#[config]
struct Status {
    status: u16,
}

#[plugin(config = Self)]
impl Status {
    #[pre]
    fn attack(&self) -> Reply {
        Reply::new(self.status)
    }

    #[auth(name = "attack")]
    fn in_auth(&self) -> AuthAction {
        AuthAction::Respond(Reply::new(self.status))
    }

    #[endpoint(name = "attack")]
    fn as_rejection(&self) -> Action {
        Rejection::new(self.status, "no").into()
    }

    #[response(name = "attack")]
    fn in_response(&self, response: &mut Response) {
        response.set_status(self.status);
    }
}
