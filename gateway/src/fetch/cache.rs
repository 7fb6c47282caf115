//! Fetched files by their digest, and what each source had when it was asked last.
//!
//! A file is looked at when it is read: one that is not what its name says is as good as none.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::files;
use crate::model::digest::Digest;
use crate::model::gateway::FetchSettings;
use crate::model::source::Source;

/// The folder of fetched files.
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    age_max: Duration,
    clock: Clock,
    bytes: AtomicU64,
    evicted: [AtomicU64; 2],
    /// Who fetches by itself writes beside a reload: together they would keep more than they may.
    writing: Mutex<()>,
}

/// Files that had to go, by the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// `fetch.cache_bytes_max`.
    pub bytes: u64,
    /// `fetch.cache_age_max_ms`.
    pub age: u64,
}

/// What a source had when it was asked last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    source: String,
    sha256: String,
    /// By which the server knows this version.
    pub(super) tag: Option<String>,
    signature: Option<String>,
}

impl Known {
    pub(super) fn new(source: &Source, digest: &Digest, tag: Option<String>, signature: Option<&[u8]>) -> Self {
        let signature = signature.map(|signature| STANDARD.encode(signature));
        Self { source: name(source), sha256: digest.hex(), tag, signature }
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.sha256)
    }

    /// The signature that came with the file of this digest.
    pub(super) fn signature_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        let signature = self.signature.as_ref().filter(|_| self.digest().as_ref() == Some(digest))?;
        STANDARD.decode(signature).ok()
    }
}

impl Cache {
    pub(super) fn open(folder: &Path, settings: &FetchSettings, clock: Clock) -> io::Result<Self> {
        files::own_folder(folder)?;
        let cache = Self {
            folder: folder.to_owned(),
            bytes_max: settings.cache_bytes_max,
            age_max: settings.cache_age_max,
            clock,
            bytes: AtomicU64::new(0),
            evicted: Default::default(),
            writing: Mutex::new(()),
        };
        cache.bytes.store(cache.files()?.iter().map(|(_, bytes, _)| bytes).sum(), Ordering::Relaxed);
        Ok(cache)
    }

    pub(super) fn numbers(&self) -> (u64, Evicted) {
        let [bytes, age] = &self.evicted;
        let evicted = Evicted { bytes: bytes.load(Ordering::Relaxed), age: age.load(Ordering::Relaxed) };
        (self.bytes.load(Ordering::Relaxed), evicted)
    }

    /// The file of this digest, if it is there and whole.
    pub(super) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.file(digest);
        let content = fs::read(&path).ok()?;
        if Digest::of(&content) != *digest {
            tracing::warn!(path = %path.display(), "a fetched file is not what it was: it is fetched again");
            return None;
        }
        self.touch(&path);
        Some(content)
    }

    /// Keeps a file. What goes wrong is logged: it is fetched again then.
    pub(super) fn put(&self, digest: &Digest, content: &[u8]) {
        self.write(&self.file(digest), content);
    }

    /// What a source had when it was asked last.
    pub(super) fn recall(&self, source: &Source) -> Option<Known> {
        let path = self.note(source);
        let known: Known = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (known.source == name(source)).then(|| {
            self.touch(&path);
            known
        })
    }

    pub(super) fn remember(&self, source: &Source, known: &Known) {
        if let Ok(text) = serde_json::to_vec(known) {
            self.write(&self.note(source), &text);
        }
    }

    fn write(&self, path: &Path, content: &[u8]) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.make_room(u64::try_from(content.len()).unwrap_or(u64::MAX)).and_then(|()| {
            // Renamed into place: a reader has the old file or the new one, never a part.
            let temporary = path.with_extension(format!("tmp{}", std::process::id()));
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.set_modified(self.now())?;
            fs::rename(&temporary, path)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "fetched file not kept");
        }
        let bytes = self.files().map(|files| files.iter().map(|(_, bytes, _)| bytes).sum());
        self.bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Deletes what was not used for too long, and what was used longest ago until so many bytes more fit.
    fn make_room(&self, more: u64) -> io::Result<()> {
        if more > self.bytes_max {
            return Err(io::Error::other("it has more bytes than `fetch.cache_bytes_max`"));
        }
        let mut files = self.files()?;
        files.sort();
        let oldest = self.now().checked_sub(self.age_max);
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        let [for_bytes, for_age] = &self.evicted;
        for (used, bytes, path) in files {
            let is_old = oldest.is_some_and(|oldest| used < oldest);
            if !is_old && total.saturating_add(more) <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            total = total.saturating_sub(bytes);
            let count = if is_old { for_age } else { for_bytes };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let entries = fs::read_dir(&self.folder)?.map(|entry| {
            let entry = entry?;
            let metadata = entry.metadata()?;
            Ok((metadata.modified()?, metadata.len(), entry.path()))
        });
        entries.collect()
    }

    /// The time of its last use is that of its last change: a file system may tell no other.
    fn touch(&self, path: &Path) {
        let touched = fs::OpenOptions::new().append(true).open(path).and_then(|file| file.set_modified(self.now()));
        if let Err(error) = touched {
            tracing::debug!(path = %path.display(), %error, "time of a fetched file not set");
        }
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.now_ms())
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("sha256-{}", digest.hex()))
    }

    fn note(&self, source: &Source) -> PathBuf {
        self.folder.join(format!("source-{}.json", Digest::of(name(source).as_bytes()).hex()))
    }
}

/// The whole of a source, its query too, as a digest: that may open doors and is not written down.
fn name(source: &Source) -> String {
    match source {
        Source::Url(location) => {
            let query = location.target.query().unwrap_or_default();
            format!("{source}?{}", Digest::of(query.as_bytes()).hex())
        }
        Source::File(_) | Source::Registry(_) => source.to_string(),
    }
}
