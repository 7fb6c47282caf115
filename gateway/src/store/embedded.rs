//! A store in a file of this gateway alone.
//!
//! One thread writes, many writes in one commit; a write is answered when its commit is on disk. Another thread reads. Rates
//! and quotas are counted in memory, quotas reserved in the file before they are used and read from it when a key comes. Values
//! of plugins are in memory and written behind.

mod file;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::file::File;
use self::writer::{Command, Writer};
use super::counters::{Counters, Kept, Taken, Ticket};
use super::error::{OpenError, StoreError, StoreTrouble};
use super::event::Events;
use super::kv::values::Values;
use super::limit::{Owner, QuotaState, Take, Verdict};
use super::record::{Cursor, Delete, Entry, Page, Table, Write, Written};
use super::writes::Writes;
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::{EmbeddedSettings, StoreLimits};

/// A store in a file. Dropping it writes down what is left to write, and waits for that.
pub(super) struct Embedded {
    file: Arc<File>,
    counters: Arc<Counters>,
    values: Arc<Values>,
    commands: Option<SyncSender<Command>>,
    reads: Option<SyncSender<Read>>,
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
    /// Sessions that plugins made; written by the thread that writes.
    made: Arc<AtomicUsize>,
    writes: Arc<Writes>,
}

/// Work for the thread that reads.
type Read = Box<dyn FnOnce(&File) + Send>;

/// Where a call waits for its answer.
type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

impl Embedded {
    pub(super) fn open(
        settings: &EmbeddedSettings,
        limits: &StoreLimits,
        clock: &Clock,
        events: &Events,
    ) -> Result<Self, OpenError> {
        let path: &Path = &settings.path;
        let failed = |reason: String| OpenError::File { path: path.to_owned(), reason };
        let file = Arc::new(File::open(path, settings.cache_bytes, limits.records_max).map_err(failed)?);
        let counters = Arc::new(Counters::new(limits, Some(settings.quota_block)));
        let made = Arc::new(AtomicUsize::new(0));

        let values = Arc::new(Values::journaled(clock.clone(), limits.kv_bytes_max));
        file.values(|space, key, entry| values.restore(space, key, entry))
            .map_err(|error| failed(error.to_string()))?;

        let (commands, received) = sync_channel(settings.queue_max);
        let wake: SyncSender<Command> = commands.clone();
        // A full queue needs no waking: the writer looks after each batch.
        values.wake_with(Some(Box::new(move || drop(wake.try_send(Command::Values)))));
        let writer =
            Writer::new(file.clone(), counters.clone(), values.clone(), clock.clone(), events.clone(), settings);
        let writer = writer.with_made(limits.plugin_sessions_max, &made).map_err(|error| failed(error.to_string()))?;
        let writes = writer.writes();
        let writing = spawn("stile-store-write", move || writer.run(&received))?;
        let (reads, asked) = sync_channel::<Read>(settings.queue_max);
        let file_of_reader = file.clone();
        let reading = spawn("stile-store-read", move || {
            for read in asked {
                read(&file_of_reader);
            }
        })?;
        Ok(Self {
            file,
            counters,
            values,
            commands: Some(commands),
            reads: Some(reads),
            threads: vec![writing, reading],
            deadline: settings.deadline,
            made,
            writes,
        })
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.writes.trouble()
    }

    pub(super) async fn read(&self, table: Table, key: &str, now_ms: u64) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.reading(move |file| file.read(table, &key, now_ms)).await
    }

    pub(super) async fn list(
        &self,
        table: Table,
        from: Option<&Cursor>,
        max: usize,
        now_ms: u64,
    ) -> Result<Page<String>, StoreError> {
        let from = from.cloned();
        self.reading(move |file| file.list(table, from.as_ref(), max, now_ms)).await
    }

    pub(super) async fn write(&self, write: Write, now_ms: u64) -> Result<Written, StoreError> {
        self.writing(|reply| Command::Write(write, now_ms, reply)).await
    }

    pub(super) async fn delete(&self, delete: Delete, now_ms: u64) -> Result<bool, StoreError> {
        self.writing(|reply| Command::Delete(delete, now_ms, reply)).await
    }

    pub(super) async fn take(&self, take: &Take, clock: &Clock) -> Result<Verdict, StoreError> {
        let mut begun = None;
        loop {
            let write = |reserve| self.send(Command::Reserve(reserve)).is_ok();
            let taken = self.counters.take(take, clock.now_ms().saturating_mul(1_000), &write)?;
            if let Taken::Decided(verdict) = taken {
                return Ok(verdict);
            }
            self.prepare(taken, take.quota.as_ref().map(|quota| &quota.owner), &mut begun).await?;
        }
    }

    /// Does what a take needs before it can be decided. `begun` is when it was first tried.
    async fn prepare(
        &self,
        taken: Taken,
        owner: Option<&Owner>,
        begun: &mut Option<Instant>,
    ) -> Result<(), StoreError> {
        if begun.get_or_insert_with(Instant::now).elapsed() > self.deadline {
            return Err(StoreError::Deadline(self.deadline));
        }
        match taken {
            Taken::Decided(_) => Ok(()),
            Taken::Load(ticket) => {
                let reading = Reading { counters: &self.counters, ticket: Some(ticket) };
                let owner = reading.ticket.as_ref().map(|ticket| ticket.owner.clone()).unwrap_or_default();
                let kept = self.reading(move |file| file.quota(&owner)).await?;
                reading.end(kept.as_ref());
                Ok(())
            }
            Taken::Wait(waiting) => {
                within(self.deadline, waiting.written).await?;
                if owner.is_some_and(|owner| self.counters.failures(owner) > waiting.failures) {
                    return Err(StoreError::away("quota cannot be written down"));
                }
                Ok(())
            }
        }
    }

    pub(super) async fn quota(&self, owner: &Owner, limit: &QuotaLimit, now_ms: u64) -> Result<QuotaState, StoreError> {
        if let Some(state) = self.counters.quota_state(owner, limit, now_ms) {
            return Ok(state);
        }
        // Only what the file says exactly is not in memory.
        let name = owner.as_str().to_owned();
        let kept = self.reading(move |file| file.quota(&name)).await?;
        Ok(kept.map_or_else(|| QuotaState::unused(limit), |kept| kept.state(limit, now_ms)))
    }

    pub(super) async fn set_quota(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut begun = None;
        loop {
            let (reply, answer) = oneshot::channel();
            match self.counters.set_quota(owner, used, now_ms, |kept| self.send(Command::Keep(kept, reply)))? {
                None => return self.answered(answer).await,
                Some(hindrance) => self.prepare(hindrance, None, &mut begun).await?,
            }
        }
    }

    /// Sessions that plugins made.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Commits of changes.
    pub(super) fn commits(&self) -> u64 {
        self.writes.commits.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn values(&self) -> &Arc<Values> {
        &self.values
    }

    async fn writing<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        self.answered(answer).await
    }

    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&File) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let work: Read = Box::new(move |file| {
            // One who stopped waiting needs no answer.
            let _ = reply.send(read(file).map_err(StoreError::away));
        });
        let reads = self.reads.as_ref().ok_or_else(|| StoreError::away("store is closed"))?;
        reads.try_send(work).map_err(|error| not_sent(&error))?;
        self.answered(answer).await
    }

    /// Has the thread that reads wait for a word, or until nobody can say one, once it has said that it does.
    #[cfg(test)]
    pub(super) async fn hold(
        &self,
        begun: std::sync::mpsc::Sender<()>,
        released: std::sync::mpsc::Receiver<()>,
    ) -> Result<(), StoreError> {
        let wait = move |_: &File| {
            let _ = begun.send(());
            let _ = released.recv();
            Ok(())
        };
        self.reading(wait).await
    }

    async fn answered<T>(&self, answer: Answer<T>) -> Result<T, StoreError> {
        within(self.deadline, answer).await?.map_err(|_| StoreError::away("the store's thread has ended"))?
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        let commands = self.commands.as_ref().ok_or_else(|| StoreError::away("store is closed"))?;
        commands.try_send(command).map_err(|error| not_sent(&error))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Both threads end when nobody can ask any more.
        self.values.wake_with(None);
        (self.commands, self.reads) = (None, None);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(path = %self.file.path().display(), "a thread of the store has panicked");
            }
        }
    }
}

fn not_sent<T>(error: &TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Busy,
        TrySendError::Disconnected(_) => StoreError::away("the store's thread has ended"),
    }
}

/// A quota that is being read from the file. Whatever ends it, others may go on.
struct Reading<'a> {
    counters: &'a Counters,
    ticket: Option<Ticket>,
}

impl Reading<'_> {
    fn end(mut self, kept: Option<&Kept>) {
        if let Some(ticket) = self.ticket.take() {
            self.counters.loaded(&ticket, kept);
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.counters.not_loaded(&ticket);
        }
    }
}

/// Waits for at most so long. Without a runtime, as when plugins are tried at load, for as long as it takes.
async fn within<T>(deadline: Duration, answer: impl Future<Output = T>) -> Result<T, StoreError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(answer.await);
    }
    tokio::time::timeout(deadline, answer).await.map_err(|_| StoreError::Deadline(deadline))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}
