//! Keeps what a caller sent, and hands it to the next one.

use std::sync::Mutex;

use stile_sdk::prelude::*;

static KEPT: Mutex<Option<Vec<u8>>> = Mutex::new(None);

struct Globals;

#[plugin]
impl Globals {
    #[pre(headers = ["authorization"])]
    fn attack(request: &mut Request) -> Result<Reply, String> {
        let mine = request.headers.get("authorization").map(<[u8]>::to_vec);
        let theirs = std::mem::replace(&mut *KEPT.lock().map_err(|error| error.to_string())?, mine);
        Ok(Reply::new(200).body(theirs.unwrap_or_else(|| b"nothing".to_vec())))
    }
}
