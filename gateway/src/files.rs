//! Files that may change while the gateway runs: whether one is still the one that was read. Folders that are the gateway's own.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

/// Makes a folder that belongs to the gateway alone, or looks whether it does.
///
/// # Errors
/// It cannot be made, belongs to somebody else, or others may write to it.
pub fn own_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::metadata(path)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own || metadata.permissions().mode() & 0o022 != 0 {
        let text = format!("`{}` must belong to the gateway's user and be writable by nobody else", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// What tells two states of a file apart without reading it. A file that is written over in place changes its time, one that
/// is renamed over another changes the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    /// Also changes where somebody sets the other time back.
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// Of the file that a path leads to, through links.
    ///
    /// # Errors
    /// There is no such file, or it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            modified: meta.modified().ok(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            bytes: meta.len(),
            inode: meta.ino(),
        })
    }
}
