//! Opens the store, in another file where nobody named one and the first choice cannot be written.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::model::gateway::Gateway;
use crate::model::store::{EmbeddedSettings, StoreKind, StoreSettings};
use crate::store::{OpenError, Store};

/// Why the store cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}\n  hint: {hint}")]
pub struct StoreStartError {
    // Not `source`: it would be told twice.
    reason: OpenError,
    hint: &'static str,
}

/// Opens the store of a configuration and says where it is.
pub(super) fn open(gateway: &Gateway, clock: &Clock) -> Result<Store, StoreStartError> {
    let mut settings = gateway.store.clone();
    if let StoreKind::Embedded(embedded) = &mut settings.kind {
        let other = elsewhere(&embedded.path).filter(|_| gateway.store_is_unnamed);
        prepare(embedded, other).map_err(|reason| StoreStartError { reason, hint: hint(&gateway.store) })?;
    }
    let opened = Store::open(&settings, clock.clone());
    let store = opened.map_err(|reason| StoreStartError { reason, hint: hint(&settings) })?;
    match &settings.kind {
        StoreKind::Memory => tracing::info!(target: "stile::start", "store: in memory, gone with the process"),
        StoreKind::Embedded(embedded) => {
            tracing::info!(target: "stile::start", path = %embedded.path.display(), "store: in a file");
        }
        StoreKind::Redis(redis) => {
            let addresses: Vec<String> = redis.addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            tracing::info!(target: "stile::start", addresses = %addresses.join(" "), "store: on redis");
        }
    }
    Ok(store)
}

/// Makes the file and its folder, for the owner alone: it holds callers' rights and metadata. Where that is not allowed, the
/// other file.
fn prepare(embedded: &mut EmbeddedSettings, other: Option<PathBuf>) -> Result<(), OpenError> {
    let Err(error) = touch(&embedded.path) else { return Ok(()) };
    let is_closed = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
    let failed =
        |path: &Path, error: std::io::Error| OpenError::File { path: path.to_owned(), reason: error.to_string() };
    // A file that is there holds keys: to begin a second one would lose them.
    let other = other.filter(|_| is_closed && !embedded.path.exists());
    let Some(other) = other else { return Err(failed(&embedded.path, error)) };
    touch(&other).map_err(|error| failed(&other, error))?;
    embedded.path = other;
    Ok(())
}

fn touch(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// The same path below the user's folder for state, so that two configurations do not share keys there either.
fn elsewhere(path: &Path) -> Option<PathBuf> {
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    Some(base.join("stile").join(path.strip_prefix("/").unwrap_or(path)))
}

fn hint(settings: &StoreSettings) -> &'static str {
    match &settings.kind {
        StoreKind::Memory => "restart, or raise the limits of the process",
        StoreKind::Embedded(embedded) => hint_of_file(&embedded.path),
        StoreKind::Redis(_) => "look at `store.redis` of the configuration",
    }
}

/// By what is the matter with the file.
fn hint_of_file(path: &Path) -> &'static str {
    // The store locks its file as long as it is open.
    match File::options().append(true).open(path).map(|file| file.try_lock()) {
        Err(_) => "name a file that can be written as `store.embedded.path`, or set `store.kind: memory`",
        Ok(Err(TryLockError::WouldBlock)) => {
            "is another gateway running? end it, or name another file as `store.embedded.path`"
        }
        Ok(_) => {
            "the file is no store, or it is damaged: move it away, put a copy back, or name another one as `store.embedded.path`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_named_is_not_moved() {
        let path = PathBuf::from("/proc/stile/no.redb");
        let mut embedded = EmbeddedSettings::new(path.clone());
        let error = prepare(&mut embedded, None).expect_err("nobody writes there");
        assert!(error.to_string().contains("/proc/stile/no.redb"), "{error}");
        assert_eq!(embedded.path, path);
    }

    #[test]
    fn a_file_that_was_not_named_is_moved_where_its_folder_is_closed() {
        let folder = std::env::temp_dir().join(format!("stile-state-moved-{}", std::process::id()));
        let other = folder.join("a.redb");
        // Nobody makes a folder there, not even root.
        let mut embedded = EmbeddedSettings::new(PathBuf::from("/sys/stile-data/a.redb"));
        prepare(&mut embedded, Some(other.clone())).expect("the other one is ours");
        assert_eq!(embedded.path, other);
        std::fs::remove_dir_all(folder).expect("it was made");
    }

    #[test]
    fn the_hint_says_what_is_the_matter_with_the_file() {
        let folder = std::env::temp_dir().join(format!("stile-state-hint-{}", std::process::id()));
        let path = folder.join("a.redb");
        let mut embedded = EmbeddedSettings::new(path.clone());
        prepare(&mut embedded, None).expect("the folder is ours");
        let settings = StoreSettings { kind: StoreKind::Embedded(embedded), ..StoreSettings::default() };
        let open = || Store::open(&settings, Clock::system());

        let first = open().expect("nobody has it");
        assert!(open().is_err() && hint(&settings).contains("is another gateway running?"));
        drop(first);
        std::fs::write(&path, "notes of somebody").expect("it is ours");
        assert!(open().is_err() && hint(&settings).contains("the file is no store"));
        assert!(hint_of_file(Path::new("/proc/stile/no.redb")).contains("name a file that can be written"));
        std::fs::remove_dir_all(folder).expect("it was made");
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("stile-state-{}", std::process::id()));
        let mut embedded = EmbeddedSettings::new(folder.join("data/a.redb"));
        prepare(&mut embedded, None).expect("the folder is ours");
        for (path, mode) in [(folder.join("data"), 0o700), (embedded.path, 0o600)] {
            assert_eq!(std::fs::metadata(&path).expect("it was made").permissions().mode() & 0o777, mode);
        }
        std::fs::remove_dir_all(folder).expect("it was made");
    }
}
