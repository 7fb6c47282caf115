//! The thread that writes: many commands in one commit, answered after it.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use tokio::sync::oneshot;

use super::file::{File, MADE, QUOTAS, VALUES, pack, records, unpack};
use crate::clock::Clock;
use crate::model::store::EmbeddedSettings;
use crate::store::counters::{Counters, Kept, Reserve};
use crate::store::error::StoreError;
use crate::store::event::{Event, Events};
use crate::store::kv::values::Values;
use crate::store::record::{Delete, Life, Table, Write, Written};
use crate::store::share::{Made, rank};
use crate::store::writes::Writes;
use crate::telemetry::flood::Flood;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Write(Write, u64, Reply<Written>),
    Delete(Delete, u64, Reply<bool>),
    Reserve(Reserve),
    Keep(Kept, Reply<()>),
    /// There are values of plugins to write.
    Values,
}

/// Owns all writing to the file.
pub(super) struct Writer {
    file: Arc<File>,
    counters: Arc<Counters>,
    clock: Clock,
    events: Events,
    batch_max: usize,
    values: Arc<Values>,
    /// How long changes of values wait for others.
    values_interval: Duration,
    /// When they are written next.
    values_due: Option<Instant>,
    /// Where the search for what has ended goes on.
    swept_to: Option<String>,
    /// As the file has it; nothing after a failure, until it is read again.
    made: Option<Made>,
    made_max: usize,
    made_count: Arc<AtomicUsize>,
    writes: Arc<Writes>,
}

impl Writer {
    pub(super) fn new(
        file: Arc<File>,
        counters: Arc<Counters>,
        values: Arc<Values>,
        clock: Clock,
        events: Events,
        settings: &EmbeddedSettings,
    ) -> Self {
        Self {
            file,
            counters,
            clock,
            events,
            batch_max: settings.batch_max.max(1),
            values,
            values_interval: settings.kv_write_interval,
            values_due: None,
            swept_to: None,
            made: None,
            made_max: 1,
            made_count: Arc::default(),
            writes: Arc::default(),
        }
    }

    /// How its writes go.
    pub(super) fn writes(&self) -> Arc<Writes> {
        self.writes.clone()
    }

    /// Reads which sessions plugins made; at most so many in all are kept, and `count` tells how many there are.
    pub(super) fn with_made(self, max: usize, count: &Arc<AtomicUsize>) -> Result<Self, redb::Error> {
        let made = self.file.made(max)?;
        count.store(made.len(), Ordering::Relaxed);
        Ok(Self { made: Some(made), made_max: max, made_count: count.clone(), ..self })
    }

    /// Tells of a change that was made, or may have been: by the thread itself, because one who stopped waiting tells nobody,
    /// and copies would stay as they were.
    fn tell_if(&self, outcome: &Result<Written, StoreError>, event: Event) {
        if outcome.as_ref().map_or_else(StoreError::is_away, |written| written.is_done) {
            self.events.tell(event);
        }
    }

    /// Works until nobody can ask any more, then writes down what was really used of each quota.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut swept = Instant::now();
        loop {
            // Also while writes keep coming, or what has ended would stay and leave no room.
            if swept.elapsed() >= SWEEP_INTERVAL {
                self.sweep();
                swept = Instant::now();
            }
            if self.values_due.is_some_and(|due| due <= Instant::now()) {
                self.values_due = self.write_values();
            }
            if self.values_due.is_none() && self.values.is_changed() {
                self.values_due = Some(Instant::now() + self.values_interval);
            }
            let until_sweep = SWEEP_INTERVAL.saturating_sub(swept.elapsed());
            let until_values = self.values_due.map(|due| due.saturating_duration_since(Instant::now()));
            match commands.recv_timeout(until_values.map_or(until_sweep, |until| until.min(until_sweep))) {
                // Seen above, at the next turn.
                Ok(Command::Values) => {}
                Ok(first) => {
                    let rest = std::iter::from_fn(|| commands.try_recv().ok()).take(self.batch_max - 1);
                    self.commit(std::iter::once(first).chain(rest).collect());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Once, if the disk fails.
        while self.values.is_changed() && self.write_values().is_none_or(|again| again <= Instant::now()) {}
        let settled = self.counters.settled();
        if !settled.is_empty()
            && let Err(error) =
                self.file.write(|transaction| settled.iter().try_for_each(|kept| keep(transaction, kept)))
        {
            tracing::warn!(%error, "quotas count at most one block too high: what was used could not be written down");
        }
    }

    fn commit(&mut self, batch: Vec<Command>) {
        let file = self.file.clone();
        let done = self.known().and_then(|mut made| {
            let records_max = file.records_max;
            let apply = |command: &_, transaction: &_, made: &mut _| apply(transaction, command, made, records_max);
            let done = file.write(|transaction| {
                batch.iter().map(|command| apply(command, transaction, &mut made)).collect::<Result<Vec<_>, _>>()
            })?;
            self.made_count.store(made.len(), Ordering::Relaxed);
            self.made = Some(made);
            Ok(done)
        });
        let outcomes = match done {
            Ok(outcomes) => {
                self.writes.went_well();
                self.writes.commits.fetch_add(1, Ordering::Relaxed);
                if FAILED.end(|| self.clock.now_ms()).is_some() {
                    tracing::info!("store can write again");
                }
                outcomes
            }
            Err(error) => {
                self.writes.refused(&error);
                if let Some(commits) = FAILED.begin(self.clock.now_ms()) {
                    tracing::error!(%error, writes = batch.len(), commits, "store could not write");
                }
                if !matches!(error, redb::Error::TransactionInProgress) {
                    self.file.reopen();
                }
                batch.iter().map(|_| Err(StoreError::away(&error))).collect()
            }
        };
        for (command, outcome) in batch.into_iter().zip(outcomes) {
            // One who stopped waiting needs no answer.
            match command {
                Command::Write(Write { event, .. }, _, reply) => {
                    self.tell_if(&outcome, event);
                    drop(reply.send(outcome));
                }
                Command::Delete(Delete { event, .. }, _, reply) => {
                    self.tell_if(&outcome, event);
                    drop(reply.send(outcome.map(|written| written.is_done)));
                }
                Command::Keep(kept, reply) => {
                    self.counters.kept(&kept, outcome.is_ok());
                    drop(reply.send(outcome.map(|_| ())));
                }
                Command::Reserve(reserve) => self.counters.reserved(&reserve, outcome.is_ok()),
                Command::Values => {}
            }
        }
    }

    /// Which sessions plugins made: as it was left, or as the file has it.
    fn known(&mut self) -> Result<Made, redb::Error> {
        self.made.take().map_or_else(|| self.file.made(self.made_max), Ok)
    }

    /// Writes what changed of the values of plugins; when there is more to write, if that is known.
    fn write_values(&self) -> Option<Instant> {
        let (changes, is_all) = self.values.take_changes(VALUES_BYTES_MAX);
        let written = self.file.write(|transaction| {
            let mut table = transaction.open_table(VALUES)?;
            for of_space in &changes {
                for (key, entry) in &of_space.rows {
                    match entry {
                        Some(entry) => table.insert((of_space.space(), &**key), &*pack(entry))?,
                        None => table.remove((of_space.space(), &**key))?,
                    };
                }
            }
            Ok(())
        });
        match written {
            Ok(()) => (!is_all).then(Instant::now),
            Err(error) => {
                self.writes.refused(&error);
                tracing::error!(%error, "store could not write values of plugins");
                self.values.put_back(changes);
                self.file.reopen();
                Some(Instant::now() + VALUES_PAUSE)
            }
        }
    }

    /// Removes some of what has ended. Nobody reads it any more; only its place is wanted.
    fn sweep(&mut self) {
        let now = self.clock.now_ms();
        let from = self.swept_to.take();
        let mut gone = Vec::new();
        let swept = self.file.write(|transaction| {
            let mut quotas = transaction.open_table(QUOTAS)?;
            let is_kept = |_: &str, (_, renews): (u64, u64)| renews == 0 || renews > now;
            // There are fewer quotas than sessions, and a row is small.
            quotas.retain(is_kept)?;
            let mut table = transaction.open_table(records(Table::Sessions))?;
            let start = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let (mut ended, mut seen, mut last) = (Vec::new(), 0, None);
            for row in table.range::<&str>((start, Bound::Unbounded))?.take(SWEEP_MAX) {
                let (key, value) = row?;
                seen += 1;
                last = Some(key.value().to_owned());
                if unpack(value.value()).is_none_or(|entry| !entry.is_live(now)) {
                    ended.push(key.value().to_owned());
                }
            }
            let mut made = transaction.open_table(MADE)?;
            for key in &ended {
                table.remove(&**key)?;
                made.remove(&**key)?;
            }
            gone = ended;
            Ok(last.filter(|_| seen == SWEEP_MAX))
        });
        match swept {
            Ok(next) => {
                self.swept_to = next;
                if let Some(made) = &mut self.made {
                    for key in &gone {
                        made.remove(key);
                    }
                    self.made_count.store(made.len(), Ordering::Relaxed);
                }
            }
            Err(error) => {
                tracing::error!(%error, "store could not remove what has ended");
                self.file.reopen();
            }
        }
    }
}

/// The inner error is about this command alone; the outer one fails the whole batch.
fn apply(
    transaction: &WriteTransaction,
    command: &Command,
    made: &mut Made,
    records_max: usize,
) -> Result<Result<Written, StoreError>, redb::Error> {
    match command {
        Command::Write(write, now_ms, _) => self::write(transaction, write, made, records_max, *now_ms),
        Command::Delete(delete, now_ms, _) => {
            if delete.table == Table::Sessions {
                forget_made(transaction, made, &delete.key)?;
            }
            let mut table = transaction.open_table(records(delete.table))?;
            let old = table.remove(&*delete.key)?;
            let was_live = old.and_then(|old| unpack(old.value())).is_some_and(|old| old.is_live(*now_ms));
            Ok(Ok(Written::alone(was_live)))
        }
        Command::Reserve(Reserve { kept, .. }) | Command::Keep(kept, _) => {
            keep(transaction, kept)?;
            Ok(Ok(Written::alone(true)))
        }
        Command::Values => Ok(Ok(Written::alone(true))),
    }
}

fn write(
    transaction: &WriteTransaction,
    write: &Write,
    made: &mut Made,
    records_max: usize,
    now_ms: u64,
) -> Result<Result<Written, StoreError>, redb::Error> {
    let mut table = transaction.open_table(records(write.table))?;
    let old = table.get(&*write.key)?.and_then(|old| unpack(old.value()));
    let is_new = old.is_none();
    let old = old.filter(|old| old.is_live(now_ms));
    let Some(new) = write.decide(old.as_ref(), now_ms) else { return Ok(Ok(Written::alone(false))) };
    let mut written = Written::alone(true);
    if let Some(share) = &write.share {
        let mut places = transaction.open_table(MADE)?;
        for leaving in made.make_room(share, &write.key, now_ms) {
            table.remove(&*leaving.key)?;
            places.remove(&*leaving.key)?;
            written.evicted.extend((!leaving.has_ended).then(|| (*leaving.key).into()));
        }
    }
    if is_new && table.len()? >= u64::try_from(records_max).unwrap_or(u64::MAX) {
        return Ok(Err(StoreError::Full("`records_max`")));
    }
    match &write.share {
        Some(share) => {
            let (api, rank) = (share.api.as_str(), rank(new.expires_ms, now_ms));
            made.put(api, &write.key, rank);
            transaction.open_table(MADE)?.insert(&*write.key, (api, rank))?;
        }
        // What an operator writes is the operator's.
        None if write.table == Table::Sessions && write.life != Life::Kept => {
            forget_made(transaction, made, &write.key)?;
        }
        None => {}
    }
    table.insert(&*write.key, &*pack(&new))?;
    Ok(Ok(written))
}

fn forget_made(transaction: &WriteTransaction, made: &mut Made, key: &str) -> Result<(), redb::Error> {
    if made.remove(key) {
        transaction.open_table(MADE)?.remove(key)?;
    }
    Ok(())
}

fn keep(transaction: &WriteTransaction, kept: &Kept) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(QUOTAS)?;
    match kept.used {
        Some(used) => table.insert(&*kept.owner, (used, kept.renews_ms.unwrap_or(0)))?,
        None => table.remove(&*kept.owner)?,
    };
    Ok(())
}

/// Looked for when nothing was asked for so long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const SWEEP_MAX: usize = 1_000;
/// Written in one commit, for which other writes wait; a space is never cut.
const VALUES_BYTES_MAX: u64 = 8 << 20;
/// After the disk failed.
const VALUES_PAUSE: Duration = Duration::from_secs(1);

static FAILED: Flood = Flood::new();
