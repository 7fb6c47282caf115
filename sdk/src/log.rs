//! Lines in the gateway's log, marked as the plugin's. Capability `log`.
//!
//! Logging never fails: past the limits of a call, lines are dropped and counted.

pub use crate::bindings::base::stile::plugin::log::Level;

/// Writes a line for the plugin's author.
pub fn debug(message: &str) {
    line(Level::Debug, message, &[]);
}

/// Writes a line about what happened.
pub fn info(message: &str) {
    line(Level::Info, message, &[]);
}

/// Writes a line about what the operator may want to look at.
pub fn warn(message: &str) {
    line(Level::Warn, message, &[]);
}

/// Writes a line about what the operator has to look at.
pub fn error(message: &str) {
    line(Level::Error, message, &[]);
}

/// Writes a line with fields: names and values that log tools can search for.
pub fn line(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    host::log(level, message, &fields);
}

#[cfg(target_family = "wasm")]
use crate::bindings::base::stile::plugin::log as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::host::log as host;
