//! Policies by id.

use bytes::Bytes;

use super::Store;
use super::error::StoreError;
use super::event::Event;
use super::record::{Cursor, Delete, Life, OnlyIf, Page, Table, Write};
use super::sessions::LIST_MAX;
use crate::model::policy::{Policy, PolicyId};
use crate::tyk;

impl Store {
    /// A policy.
    ///
    /// # Errors
    /// The store is away, or what it keeps is no policy.
    pub async fn policy(&self, id: &PolicyId) -> Result<Option<Policy>, StoreError> {
        let read = self.0.backend.read(Table::Policies, id.as_str(), &self.0.clock).await;
        let Some(entry) = self.counted(read)? else { return Ok(None) };
        let read = tyk::policy::read(id.clone(), &entry.value);
        read.map(Some).map_err(|error| StoreError::corrupt(id.as_str(), error))
    }

    /// Keeps a policy, whatever there is.
    ///
    /// # Errors
    /// The store is away, in which case it may have been kept all the same; there is no room, or the policy is too large.
    pub async fn put_policy(&self, policy: &Policy) -> Result<(), StoreError> {
        let event = Event::PolicyChanged(policy.id.clone());
        let write = Write {
            table: Table::Policies,
            key: policy.id.as_str().into(),
            value: Bytes::from(tyk::policy::write(policy)),
            life: Life::Forever,
            only_if: OnlyIf::Always,
            share: None,
            event: event.clone(),
        };
        self.write(write, event).await.map(|_| ())
    }

    /// Deletes a policy; whether there was one.
    ///
    /// # Errors
    /// The store is away, in which case it may be deleted all the same.
    pub async fn delete_policy(&self, id: &PolicyId) -> Result<bool, StoreError> {
        let event = Event::PolicyChanged(id.clone());
        let delete = Delete { table: Table::Policies, key: id.as_str().into(), event: event.clone() };
        let deleted = self.counted(self.0.backend.delete(delete, &self.0.clock).await);
        if deleted != Ok(false) {
            self.0.events.tell(event);
        }
        deleted
    }

    /// Ids of policies, as [`Store::list_sessions`] lists keys.
    ///
    /// # Errors
    /// The store is away.
    pub async fn list_policies(&self, from: Option<&Cursor>, max: usize) -> Result<Page<PolicyId>, StoreError> {
        let listed = self.0.backend.list(Table::Policies, from, max.clamp(1, LIST_MAX), &self.0.clock).await;
        let page = self.counted(listed)?;
        let items = page.items.iter().filter_map(|text| PolicyId::parse(text).ok()).collect();
        Ok(Page { items, next: page.next })
    }
}
