//! Stored sessions by their tokens. Capabilities `sessions_read`, to read them, and `sessions`, to change them as well.
//!
//! `token` is that of a key that the operator made, as its caller sends it and without `Bearer`, or the key's own name.
//! Only keys of the API's organisation are there: see `wit/host.wit`.

use crate::{
    session::SessionEdits,
    types::{Session, SessionEdit},
};

pub use crate::bindings::base::stile::plugin::sessions::Error as UpdateError;
pub use crate::bindings::base::stile::plugin::sessions_read::Error as ReadError;

/// The session as it is kept: inactive and expired ones too, without what its policies add.
///
/// # Errors
/// See [`ReadError`].
pub fn get(token: &str) -> Result<Session, ReadError> {
    host_read::get(token)
}

/// Changes a session: makes all changes or none. More than metadata, tags and alias needs the capability
/// `session_limits`.
///
/// # Errors
/// See [`UpdateError`].
pub fn update(token: &str, edit: impl FnOnce(&mut SessionEdits)) -> Result<(), UpdateError> {
    let mut edits = SessionEdits::default();
    edit(&mut edits);
    let edits: Vec<SessionEdit> = edits.into_edits();
    host::update(token, &edits)
}

#[cfg(target_family = "wasm")]
use crate::bindings::base::stile::plugin::{sessions as host, sessions_read as host_read};
#[cfg(not(target_family = "wasm"))]
use crate::testing::host::{sessions as host, sessions as host_read};
