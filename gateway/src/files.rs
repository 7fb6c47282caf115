//! Files of the configuration, which may change while the gateway runs: how they are opened, and whether one is still the one that
//! was read. Folders that are the gateway's own.

use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use rustix::fs::{Mode, OFlags};

/// Opens a file that a configuration names, to read it. Nothing but a regular file: opening a pipe waits for one who writes to it,
/// and reading a device may never end.
///
/// # Errors
/// It cannot be opened, or it is not a file.
pub fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = fs::File::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?);
    // Of what was opened: the path may lead to something else by now.
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(file)
}

/// What is in a file that a configuration names.
///
/// # Errors
/// See [`open`]; or it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, expected: Result<&str, &str>) {
        let found = read(path).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected.map(str::as_bytes), "{}", path.display());
    }

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_keeps_nobody_waiting() {
        let folder = std::env::temp_dir().join(format!("stile-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let (file, link, pipe) = (folder.join("file"), folder.join("link"), folder.join("pipe"));
        fs::write(&file, "content").expect("it is ours");
        std::os::unix::fs::symlink(&file, &link).expect("it is ours");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("it is ours");

        check(&file, Ok("content"));
        check(&link, Ok("content"));
        check(&pipe, Err("it is not a file"));
        check(&folder, Err("it is not a file"));
        check(Path::new("/dev/null"), Err("it is not a file"));

        fs::remove_dir_all(folder).expect("it was made");
    }
}
