//! Has names that would paint on the terminal of whoever looks at the plugin, and write lines of their own there.

use stile_sdk::prelude::*;

struct Painter;

#[plugin]
impl Painter {
    #[pre(name = "\u{1b}[2J\u{1b}[32mgood\nsigned by the operator")]
    fn attack() {}

    #[pre(name = "\u{202e}kcatta")]
    fn second() {}
}
