//! The `stile` command.

fn main() {}
