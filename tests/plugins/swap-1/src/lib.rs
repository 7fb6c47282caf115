//! Version 1 of a plugin that is exchanged while requests are answered.

include!("../../swap.rs");

const VERSION: &str = "1";
