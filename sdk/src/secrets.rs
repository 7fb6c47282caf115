//! Secrets that a plugin may send and never sees. Capability `secrets`.

pub use crate::bindings::base::stile::plugin::secrets::Error;

/// A text that stands for the secret: put it into a header field of a request, and the gateway puts the value in its
/// place on the way out. It works inside `Authorization: Basic …` too, and nowhere else: not in URLs, not in bodies. It is
/// good for this instance only: ask in each call, and do not keep it.
///
/// # Errors
/// The operator gave no secret of this name.
pub fn placeholder(name: &str) -> Result<String, Error> {
    host::placeholder(name)
}

#[cfg(target_family = "wasm")]
use crate::bindings::base::stile::plugin::secrets as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::host::secrets as host;
