//! Files that may change while the gateway runs: whether one is still the one that was read.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

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
