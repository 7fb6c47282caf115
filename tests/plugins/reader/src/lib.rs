//! Tells the upstream whose session a token has. It reads and never changes.

use stile_sdk::prelude::*;

struct Reader;

#[plugin(capabilities(sessions_read = "tells whose session it is"))]
impl Reader {
    #[pre(headers = ["x-of"])]
    fn read(request: &mut Request) {
        let alias = match sessions::get(request.headers.text("x-of").unwrap_or_default()) {
            Ok(session) => session.alias,
            Err(error) => format!("{error:?}"),
        };
        request.headers.set("x-alias", alias);
    }
}
