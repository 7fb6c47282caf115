//! Ends the process, as if it were its own.

everywhere::act!(end);

fn end() -> Result<(), String> {
    std::process::exit(0)
}
