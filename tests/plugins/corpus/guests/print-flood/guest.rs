//! Fills the standard output, which nobody asked for.

everywhere::act!(flood);

fn flood() -> Result<(), String> {
    print!("{}", "b".repeat(1 << 20));
    Ok(())
}
