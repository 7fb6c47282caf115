//! Plugins: loaded once, called in a sandbox, never trusted.
//!
//! A call takes values and gives a verdict: nothing here knows an exchange, a socket or a status page, so the command
//! line and the benches drive it without HTTP.

pub mod cache;
pub mod call;
pub mod check;
pub mod compile;
mod configs;
pub mod description;
pub mod engine;
pub mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod grain;
pub mod host;
pub mod lane;
pub mod limits;
pub mod load;
pub mod machine;
pub mod pool;
pub mod quarantine;
pub mod reclaim;
pub mod rights;
mod schema;
pub mod seal;
pub mod shape;
pub mod ticker;
pub mod v0_1;
pub mod verdict;

/// The contract that this gateway speaks.
pub const CONTRACT: &str = "stile:plugin@0.1.0";
