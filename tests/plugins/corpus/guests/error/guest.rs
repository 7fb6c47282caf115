//! Says that it failed, in words meant for a terminal.

everywhere::act!(fail);

fn fail() -> Result<(), String> {
    Err("\u{1b}[31mnobody expects\r\nthis".to_owned())
}
