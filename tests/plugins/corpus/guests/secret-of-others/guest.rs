//! Asks for a secret that the operator gave to another plugin.

use stile_sdk::prelude::*;

struct Others;

#[plugin(capabilities(secrets = "to find them"))]
impl Others {
    #[pre]
    fn attack() -> Reply {
        let names = ["token", "TOKEN", "../secret", "", "*", "token\0"];
        let found: Vec<_> = names.iter().filter(|name| secrets::placeholder(name).is_ok()).collect();
        Reply::new(200).body(format!("{found:?}"))
    }
}
