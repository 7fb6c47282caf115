//! Values kept between requests, apart for each API and plugin. Capability `kv`.
//!
//! `ttl` is how long a value is kept from now on; `None` keeps it until it is deleted or its place is needed.

use std::time::Duration;

pub use crate::bindings::base::stile::plugin::kv::Error;

/// The value of the key.
///
/// # Errors
/// See [`Error`].
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::get(key)
}

/// Sets the value of the key.
///
/// # Errors
/// See [`Error`].
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
    host::set(key, value, ttl.map(ms))
}

/// Deletes the key. Whether there was a value.
///
/// # Errors
/// See [`Error`].
pub fn delete(key: &str) -> Result<bool, Error> {
    host::delete(key)
}

/// Adds to a number, atomically, and returns the new one. A value that is not there counts as zero; `ttl` is set only
/// when it is made.
///
/// # Errors
/// See [`Error`].
pub fn increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
    host::increment(key, by, ttl.map(ms))
}

/// Writes `value` if the value is still `expected` (`None`: if there is none), atomically. Whether it was written.
///
/// # Errors
/// See [`Error`].
pub fn compare_and_set(key: &str, expected: Option<&[u8]>, value: &[u8], ttl: Option<Duration>) -> Result<bool, Error> {
    host::compare_and_set(key, expected, value, ttl.map(ms))
}

fn ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(target_family = "wasm")]
use crate::bindings::base::stile::plugin::kv as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::host::kv as host;
