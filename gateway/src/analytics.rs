//! Where analytics records go: nowhere, the log, or a file.
//!
//! A thread of its own writes them; nothing that serves a request waits for a disk.

pub mod json;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::gateway::{AnalyticsSink, AnalyticsTarget};
use crate::model::record::Record;

/// Takes records. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    queue: Mutex<Option<SyncSender<Vec<Record>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    waiting: AtomicU64,
    waiting_max: u64,
    counters: Arc<Counters>,
}

/// What became of records.
#[derive(Debug, Default)]
pub struct Counters {
    /// Written.
    pub written: AtomicU64,
    /// Dropped because too many waited.
    pub dropped: AtomicU64,
    /// Lost because they could not be written.
    pub failed: AtomicU64,
}

/// A sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file cannot be written.
    #[error("analytics file `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("analytics thread: {0}")]
    Thread(#[source] io::Error),
}

impl Sink {
    /// Opens the target and starts its thread.
    pub fn start(settings: &AnalyticsSink) -> Result<Self, SinkError> {
        let mut target = match &settings.target {
            AnalyticsTarget::Off => Target::Off,
            AnalyticsTarget::Log => Target::Log,
            AnalyticsTarget::File(path) => {
                Target::File(LogFile::open(path).map_err(|source| SinkError::File { path: path.clone(), source })?)
            }
        };
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = mpsc::sync_channel(BATCHES_MAX);
        let waiting_max = u64::try_from(settings.queue_max).unwrap_or(u64::MAX);
        let waiting = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Some(sender)),
            writer: Mutex::default(),
            waiting,
            waiting_max,
            counters,
        });
        let weak = Arc::downgrade(&shared);
        let counters = shared.counters.clone();
        let write = move || {
            write_all(&receiver, &mut target, &counters, &|records| {
                if let Some(shared) = weak.upgrade() {
                    shared.waiting.fetch_sub(records, Ordering::Relaxed);
                }
            });
        };
        let writer =
            std::thread::Builder::new().name("stile-analytics".to_owned()).spawn(write).map_err(SinkError::Thread)?;
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(Self(shared))
    }

    /// Hands records over. Never waits: where too many wait already, they are dropped and counted.
    pub fn send(&self, records: Vec<Record>) {
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let fits = self.0.waiting.fetch_add(count, Ordering::Relaxed).saturating_add(count) <= self.0.waiting_max;
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = fits && queue.as_ref().is_some_and(|queue| queue.try_send(records).is_ok());
        if !sent {
            self.0.waiting.fetch_sub(count, Ordering::Relaxed);
            self.0.counters.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What became of records so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// Writes what waits, for at most so long. Returns how many records were not written.
    pub fn close(&self, timeout: Duration) -> u64 {
        drop(self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let until = Instant::now() + timeout;
        if let Some(writer) = writer {
            while !writer.is_finished() && Instant::now() < until {
                std::thread::yield_now();
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if writer.is_finished() {
                // What the thread could not write it has counted; how it ended says no more.
                let _ = writer.join();
            }
        }
        self.0.waiting.load(Ordering::Relaxed)
    }
}

enum Target {
    Off,
    Log,
    File(LogFile),
}

fn write_all(queue: &Receiver<Vec<Record>>, target: &mut Target, counters: &Counters, done: &dyn Fn(u64)) {
    let mut complained: Option<Instant> = None;
    loop {
        let records = match queue.recv_timeout(Duration::from_secs(1)) {
            Ok(records) => records,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let (written, ended) = match target {
            Target::Off => (count, Ok(())),
            Target::Log => {
                records
                    .iter()
                    .for_each(|record| tracing::info!(target: "stile::analytics", record = %json::line(record)));
                (count, Ok(()))
            }
            Target::File(file) => file.write(&records),
        };
        counters.written.fetch_add(written, Ordering::Relaxed);
        if let Err(error) = ended {
            let lost = count.saturating_sub(written);
            if complained.is_none_or(|at| at.elapsed() > COMPLAINT_PAUSE) {
                complained = Some(Instant::now());
                tracing::error!(%error, records = lost, "analytics records lost");
            }
            counters.failed.fetch_add(lost, Ordering::Relaxed);
        }
        done(count);
    }
}

/// A file that others may rename or remove under it, as log rotation does.
struct LogFile {
    path: PathBuf,
    /// Without a buffer of its own: what was counted as lost must not appear later.
    file: File,
    inode: u64,
    /// The last write ended within a line.
    is_torn: bool,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { path: path.to_owned(), file, inode, is_torn: false })
    }

    /// Writes records, a line each: how many are whole in the file, and why the others are not.
    fn write(&mut self, records: &[Record]) -> (u64, io::Result<()>) {
        if let Err(error) = self.follow() {
            return (0, Err(error));
        }
        let mut text = String::new();
        if self.is_torn {
            // The half line stays, but spoils no other.
            text.push('\n');
        }
        let mut ends = Vec::with_capacity(records.len());
        for record in records {
            text.push_str(&json::line(record));
            text.push('\n');
            ends.push(text.len());
        }
        let (written, ended) = self.write_text(text.as_bytes());
        if let Some(last) = written.checked_sub(1) {
            self.is_torn = text.as_bytes().get(last) != Some(&b'\n');
        }
        let whole = ends.iter().filter(|end| **end <= written).count();
        (u64::try_from(whole).unwrap_or(u64::MAX), ended)
    }

    /// How many bytes were written, and why not all.
    fn write_text(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Opens the file anew where its name means another one by now, or none.
    fn follow(&mut self) -> io::Result<()> {
        if std::fs::metadata(&self.path).map(|metadata| metadata.ino()).ok() != Some(self.inode) {
            *self = Self::open(&self.path)?;
        }
        Ok(())
    }
}

const BATCHES_MAX: usize = 1024;
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
