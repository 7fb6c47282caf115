//! Reads the session of a key that is another organisation's, and changes it.

use stile_sdk::prelude::*;

struct Others;

#[plugin(capabilities(sessions = "to reach them"))]
impl Others {
    #[pre]
    fn attack() -> Reply {
        // As the caller sends it, as the operator names it, and as the store does.
        let tokens = ["theirsann", "ann", "theirs", "mine/../theirsann", "*", ""];
        let found: Vec<_> = tokens.iter().filter(|token| sessions::get(token).is_ok()).collect();
        let changed = sessions::update("theirsann", |session| session.set_alias("owned"));
        Reply::new(200).body(format!("{found:?} {changed:?}"))
    }
}
