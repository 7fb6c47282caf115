//! Sessions under the hash of their key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Store;
use super::error::StoreError;
use super::event::Event;
use super::record::{Cursor, Delete, Entry, Life, OnlyIf, Page, Table, Write};
use super::share::Share;
use crate::model::edit_rules::{EditRefused, EditRules};
use crate::model::key::KeyHash;
use crate::model::session::{Session, SessionEdit};
use crate::telemetry::flood::Flood;
use crate::tyk;

/// A session as it was read. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The session.
    pub session: Arc<Session>,
    /// What [`Store::update_session`] compares.
    pub version: Version,
    /// When it goes by itself, in milliseconds since 1970; `None` where it is kept until it is deleted.
    pub ends_ms: Option<u64>,
}

/// The very bytes that were read: an update is made only while they are still what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Bytes);

impl Stored {
    /// Whether it is gone by now, whoever still holds it.
    pub(super) fn has_ended(&self, now_ms: u64) -> bool {
        self.ends_ms.is_some_and(|ends| ends <= now_ms)
    }
}

/// What became of edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// They are kept.
    Done,
    /// There is no such session any more.
    Gone,
    /// They may not leave what they would have left.
    Refused(EditRefused),
}

impl Store {
    /// The session of a key, from the store itself. Requests ask the cache, which asks here.
    ///
    /// # Errors
    /// The store is away, or what it keeps is no session.
    pub async fn session(&self, key: &KeyHash) -> Result<Option<Stored>, StoreError> {
        let read = self.0.backend.read(Table::Sessions, key.as_str(), &self.0.clock).await;
        let Some(Entry { value: bytes, expires_ms }) = self.counted(read)? else { return Ok(None) };
        let session = if bytes.len() > self.0.record_bytes_max {
            Err(StoreError::corrupt(key.as_str(), "it is larger than `record_bytes_max`"))
        } else {
            tyk::session::read(&bytes).map_err(|error| StoreError::corrupt(key.as_str(), error))
        };
        Ok(Some(Stored { session: Arc::new(session?), version: Version(bytes), ends_ms: expires_ms }))
    }

    /// Keeps a session unless there is one; whether it was kept. Quota that was used under the key stays used.
    ///
    /// # Errors
    /// The store is away, in which case it may have been kept all the same; there is no room, or the session is too large.
    pub async fn create_session(&self, key: &KeyHash, session: &Session, life: Life) -> Result<bool, StoreError> {
        self.write_session(key, session, life, OnlyIf::Absent, None).await.map(|written| written.is_some())
    }

    /// Keeps a session that a plugin made, in the share of its API: in place of the one that was read, or where there was
    /// none; whether it was kept. Where the share is full, the one that would end first leaves, and every gateway is told.
    /// What is used of quotas stays used.
    ///
    /// # Errors
    /// As for [`Store::create_session`].
    pub async fn keep_made_session(
        &self,
        key: &KeyHash,
        session: &Session,
        life: Life,
        share: &Arc<Share>,
        read: Option<&Version>,
    ) -> Result<bool, StoreError> {
        let only_if = read.map_or(OnlyIf::Absent, |read| OnlyIf::Is(read.0.clone()));
        self.write_session(key, session, life, only_if, Some(share)).await.map(|written| written.is_some())
    }

    /// Keeps a session, whatever there is.
    ///
    /// # Errors
    /// As for [`Store::create_session`].
    pub async fn replace_session(&self, key: &KeyHash, session: &Session, life: Life) -> Result<(), StoreError> {
        self.write_session(key, session, life, OnlyIf::Always, None).await.map(|_| ())
    }

    /// Keeps a session if there is still the one that was read: a session that was deleted meanwhile stays deleted. The new
    /// version, or nothing where it was not written: read again.
    ///
    /// # Errors
    /// As for [`Store::create_session`].
    pub async fn update_session(
        &self,
        key: &KeyHash,
        session: &Session,
        life: Life,
        read: &Version,
    ) -> Result<Option<Version>, StoreError> {
        self.write_session(key, session, life, OnlyIf::Is(read.0.clone()), None).await
    }

    /// Applies changes to a session, all at once: to the one that was read or, where others were faster, to what they left. It
    /// is kept as long as before. A session that was deleted meanwhile stays deleted, and one of another organisation that came
    /// in its place is not touched.
    ///
    /// # Errors
    /// As for [`Store::create_session`]; or others keep overtaking.
    pub async fn edit_session(
        &self,
        key: &KeyHash,
        read: Stored,
        edits: &[SessionEdit],
        rules: &EditRules,
    ) -> Result<Edited, StoreError> {
        let mut current = read.clone();
        for _ in 0..TRIES_MAX {
            if let Err(refused) = rules.check(&current.session, edits) {
                return Ok(Edited::Refused(refused));
            }
            let mut session = Session::clone(&current.session);
            edits.iter().cloned().for_each(|edit| session.apply(edit));
            if self.update_session(key, &session, Life::Kept, &current.version).await?.is_some() {
                return Ok(Edited::Done);
            }
            let fresh = self.session(key).await?;
            let fresh = fresh.filter(|fresh| fresh.session.organisation == read.session.organisation);
            let Some(fresh) = fresh else { return Ok(Edited::Gone) };
            current = fresh;
        }
        Err(StoreError::Busy)
    }

    /// Deletes a session; whether there was one. Every gateway is told at once.
    ///
    /// # Errors
    /// The store is away, in which case it may be deleted all the same.
    pub async fn delete_session(&self, key: &KeyHash) -> Result<bool, StoreError> {
        let event = Event::SessionDeleted(key.clone());
        let delete = Delete { table: Table::Sessions, key: key.as_str().into(), event: event.clone() };
        let deleted = self.counted(self.0.backend.delete(delete, &self.0.clock).await);
        // Also where nobody knows whether it was, or it was not asked: one who reads again knows, and a key that somebody
        // wants gone is not served from memory because the store is away.
        if deleted != Ok(false) {
            self.0.events.tell(event);
        }
        deleted
    }

    /// Keys with a session, about `max` of them from a place on, in no order that is promised. One that is there all the
    /// time is listed once in memory and in a file, and at least once on Redis.
    ///
    /// # Errors
    /// The store is away.
    pub async fn list_sessions(&self, from: Option<&Cursor>, max: usize) -> Result<Page<KeyHash>, StoreError> {
        let listed = self.0.backend.list(Table::Sessions, from, max.clamp(1, LIST_MAX), &self.0.clock).await;
        let page = self.counted(listed)?;
        // Keys of Tyk that are not hashed have no place here.
        let items = page.items.iter().filter_map(|text| KeyHash::guess(text).ok()).collect();
        Ok(Page { items, next: page.next })
    }

    async fn write_session(
        &self,
        key: &KeyHash,
        session: &Session,
        life: Life,
        only_if: OnlyIf,
        share: Option<&Arc<Share>>,
    ) -> Result<Option<Version>, StoreError> {
        let value = Bytes::from(tyk::session::write(session, key.algorithm()));
        let event = Event::SessionChanged(key.clone());
        let write = Write {
            table: Table::Sessions,
            key: key.as_str().into(),
            value: value.clone(),
            life,
            only_if,
            share: share.cloned(),
            event: event.clone(),
        };
        let written = self.write(write, event).await?;
        Ok(written.then_some(Version(value)))
    }

    /// Writes a record and tells of it.
    pub(super) async fn write(&self, write: Write, event: Event) -> Result<bool, StoreError> {
        let share = write.share.clone();
        let written = if write.value.len() > self.0.record_bytes_max {
            Err(StoreError::TooLarge)
        } else {
            self.0.backend.write(write, &self.0.clock).await
        };
        let written = self.counted(written).map(|written| {
            if let Some(share) = share.filter(|_| !written.evicted.is_empty()) {
                self.tell_evicted(&share, &written.evicted);
            }
            written.is_done
        });
        let may_be_written = written.as_ref().map_or_else(StoreError::is_away, |written| *written);
        if may_be_written {
            self.0.events.tell(event);
        }
        written
    }
}

impl Store {
    fn tell_evicted(&self, share: &Share, keys: &[Box<str>]) {
        share.numbers.evicted.fetch_add(u64::try_from(keys.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        for key in keys.iter().filter_map(|key| KeyHash::guess(key).ok()) {
            self.0.events.tell(Event::SessionDeleted(key));
        }
        if let Some(sessions) = EVICTED.begin(self.0.clock.now_ms()) {
            tracing::warn!(
                api = %share.api, sessions, sessions_max = share.sessions_max,
                "sessions of plugins leave before their time: `auth.sessions_max` or `store.plugin_sessions_max` is reached"
            );
        }
    }
}

static EVICTED: Flood = Flood::new();

/// So often a change is tried again that others keep overtaking.
const TRIES_MAX: usize = 16;
/// Records listed at once.
pub(super) const LIST_MAX: usize = 1_000;
