//! Writes a line that looks like two, and speaks to the operator's terminal.

use stile_sdk::prelude::*;

struct Forgery;

#[plugin(capabilities(log = "to forge it"))]
impl Forgery {
    #[pre]
    fn attack() -> Result<(), String> {
        let text = "fine\r\n2999-01-01T00:00:00Z ERROR stile: forged\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\u{2028}";
        log::line(log::Level::Info, text, &[(text, text)]);
        println!("{text}");
        Err(text.to_owned())
    }
}
