//! The file: its tables, what is read from them, and how it is opened again after the disk failed.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::store::counters::Kept;
use crate::store::record::{Cursor, Entry, Page, Table};
use crate::store::share::Made;

/// Key to the time of its end (milliseconds since 1970, eight bytes, zero for none) and the value.
pub(super) type Records = TableDefinition<'static, &'static str, &'static [u8]>;
/// Owner to what was used and the time of renewal (zero for none).
pub(super) const QUOTAS: TableDefinition<'static, &'static str, (u64, u64)> = TableDefinition::new("quotas");
/// Space and key of a value of a plugin to the same as with records.
pub(super) const VALUES: TableDefinition<'static, (&'static str, &'static str), &'static [u8]> =
    TableDefinition::new("values");
/// Session that a plugin made, to the API and its place in the order in which they end.
pub(super) const MADE: TableDefinition<'static, &'static str, (&'static str, u64)> =
    TableDefinition::new("made_sessions");
const SESSIONS: Records = TableDefinition::new("sessions");
const POLICIES: Records = TableDefinition::new("policies");

/// The open file.
pub(super) struct File {
    path: PathBuf,
    cache_bytes: usize,
    pub(super) records_max: usize,
    /// Nothing while it is opened again.
    database: RwLock<Option<Database>>,
}

impl File {
    pub(super) fn open(path: &Path, cache_bytes: usize, records_max: usize) -> Result<Self, String> {
        let database = open(path, cache_bytes)?;
        let file = Self { path: path.to_owned(), cache_bytes, records_max, database: RwLock::new(Some(database)) };
        // Readers find every table.
        file.write(|transaction| {
            transaction.open_table(SESSIONS)?;
            transaction.open_table(POLICIES)?;
            transaction.open_table(QUOTAS)?;
            transaction.open_table(VALUES)?;
            transaction.open_table(MADE)?;
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, table: Table, key: &str, now_ms: u64) -> Result<Option<Entry>, redb::Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(records(table))?;
            let entry = table.get(key)?.and_then(|value| unpack(value.value()));
            Ok(entry.filter(|entry| entry.is_live(now_ms)))
        })
    }

    pub(super) fn list(
        &self,
        table: Table,
        from: Option<&Cursor>,
        max: usize,
        now_ms: u64,
    ) -> Result<Page<String>, redb::Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(records(table))?;
            let from = from.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.as_str()));
            let mut items = Vec::new();
            for row in table.range::<&str>((from, Bound::Unbounded))? {
                let (key, value) = row?;
                if unpack(value.value()).is_some_and(|entry| entry.is_live(now_ms)) {
                    items.push(key.value().to_owned());
                }
                if items.len() == max {
                    break;
                }
            }
            let next = (items.len() == max).then(|| items.last().map(|last| Cursor(last.as_str().into()))).flatten();
            Ok(Page { items, next })
        })
    }

    /// What was used of a quota.
    pub(super) fn quota(&self, owner: &str) -> Result<Option<Kept>, redb::Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(QUOTAS)?;
            let row = table.get(owner)?.map(|row| row.value());
            let kept = |(used, renews)| Kept {
                owner: owner.into(),
                used: Some(used),
                renews_ms: (renews > 0).then_some(renews),
            };
            Ok(row.map(kept))
        })
    }

    /// The sessions that plugins made.
    pub(super) fn made(&self, max: usize) -> Result<Made, redb::Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(MADE)?;
            let mut made = Made::new(max);
            for row in table.iter()? {
                let (key, value) = row?;
                let (api, rank) = value.value();
                made.put(api, key.value(), rank);
            }
            Ok(made)
        })
    }

    /// Tells of every value of plugins; of nothing where a row cannot be read.
    pub(super) fn values(&self, tell: impl Fn(&str, &str, Option<Entry>)) -> Result<(), redb::Error> {
        self.with(|database| {
            for row in database.begin_read()?.open_table(VALUES)?.iter()? {
                let (key, value) = row?;
                let (space, key) = key.value();
                tell(space, key, unpack(value.value()));
            }
            Ok(())
        })
    }

    /// Runs one transaction to its commit, which is on disk when this returns.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// After the disk failed, the file takes no more writes until it is opened anew.
    pub(super) fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        match open(&self.path, self.cache_bytes) {
            Ok(opened) => *database = Some(opened),
            Err(reason) => tracing::error!(path = %self.path.display(), reason, "store cannot be opened again"),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(database.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }
}

fn open(path: &Path, cache_bytes: usize) -> Result<Database, String> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Sessions are the gateway's own business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| error.to_string())?;
    let backend = FileBackend::new(file).map_err(|error| error.to_string())?;
    Database::builder().set_cache_size(cache_bytes).create_with_backend(backend).map_err(|error| error.to_string())
}

pub(super) const fn records(table: Table) -> Records {
    match table {
        Table::Sessions => SESSIONS,
        Table::Policies => POLICIES,
    }
}

pub(super) fn pack(entry: &Entry) -> Vec<u8> {
    let mut packed = Vec::with_capacity(8 + entry.value.len());
    packed.extend_from_slice(&entry.expires_ms.unwrap_or(0).to_le_bytes());
    packed.extend_from_slice(&entry.value);
    packed
}

pub(super) fn unpack(packed: &[u8]) -> Option<Entry> {
    let (expires, value) = packed.split_first_chunk::<8>()?;
    let expires = u64::from_le_bytes(*expires);
    Some(Entry { value: Bytes::copy_from_slice(value), expires_ms: (expires > 0).then_some(expires) })
}
