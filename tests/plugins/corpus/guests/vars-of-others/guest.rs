//! Leaves a value for later plugins of a request, and looks for it in the next request.

use stile_sdk::prelude::*;

struct Vars;

#[plugin]
impl Vars {
    #[pre(headers = ["authorization"], context = [vars])]
    fn attack(request: &mut Request) {
        let found = request.vars.get("kept").map_or_else(|| b"nothing".to_vec(), <[u8]>::to_vec);
        let mine = request.headers.get("authorization").unwrap_or_default().to_vec();
        request.vars.set("kept", mine);
        request.vars.set("found", found);
    }

    #[response(context = [vars], name = "tell")]
    fn tell(response: &mut Response) {
        let found = response.vars.get("found").unwrap_or_default().to_vec();
        response.set_body(found);
    }
}
