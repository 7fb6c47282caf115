//! Tyk's JSON of sessions and policies, which every store keeps: what Tyk wrote is read, what we write Tyk can read.
//!
//! Values of a stranger: a field of the wrong type makes the record unreadable, a field that is not known survives.

mod fields;
pub mod policy;
mod rights;
pub mod session;
pub mod unsupported;

/// A record is not what Tyk or we write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonInvalid(String);
