//! Writes down what a caller of one API sent, and reads it for a caller of another API.

use stile_sdk::prelude::*;

struct Shared;

#[plugin(capabilities(kv = "to remember"))]
impl Shared {
    #[pre(headers = ["authorization"])]
    fn attack(request: &mut Request) -> Result<Reply, String> {
        let said = |error| format!("{error:?}");
        // Names that would lead out of a folder, or out of a key of the store.
        let names = ["../kept", "kept}", "*", "pre-reject-one/kept", "kept\r\nDEL kept\r\n", "\0kept"];
        let kept = names.iter().find_map(|name| kv::get(name).ok().flatten());
        let mine = request.headers.get("authorization").unwrap_or_default();
        names.iter().try_for_each(|name| kv::set(name, mine, None)).map_err(said)?;
        Ok(Reply::new(200).body(kept.unwrap_or_else(|| b"nothing".to_vec())))
    }
}
