//! Records as bytes: what every store keeps of sessions and policies, before anybody reads them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::event::Event;
use super::share::Share;
use crate::model::session::{PostExpiryAction, Session};

/// The kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Sessions,
    Policies,
}

/// A write of one record.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) table: Table,
    pub(super) key: Box<str>,
    pub(super) value: Bytes,
    pub(super) life: Life,
    pub(super) only_if: OnlyIf,
    /// Whose share it takes a place of, where a plugin made it.
    pub(super) share: Option<Arc<Share>>,
    /// Told everywhere when it was written.
    pub(super) event: Event,
}

/// What became of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Whether the condition held.
    pub(super) is_done: bool,
    /// Records that left before their time, to make room in the share.
    pub(super) evicted: Vec<Box<str>>,
}

impl Written {
    /// Written or not, and nobody had to leave.
    pub(super) fn alone(is_done: bool) -> Self {
        Self { is_done, evicted: Vec::new() }
    }
}

/// A deletion of one record.
#[derive(Debug, Clone)]
pub(super) struct Delete {
    pub(super) table: Table,
    pub(super) key: Box<str>,
    /// Told everywhere when there was one.
    pub(super) event: Event,
}

/// When a write is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnlyIf {
    Always,
    Absent,
    Is(Bytes),
}

/// How long a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until it is deleted.
    Forever,
    /// So many milliseconds from now; zero counts as one.
    Millis(u64),
    /// As long as the record that it replaces; for ever where there is none.
    Kept,
}

impl Life {
    /// How long a session is kept: until the grace after its expiry is over where it is to be deleted then, or for its
    /// lifetime, or else for `otherwise`, where zero is for ever.
    pub fn of(session: &Session, otherwise: Duration, now_ms: u64) -> Self {
        let is_deleted = session.post_expiry_action == PostExpiryAction::Delete;
        let seconds = if is_deleted && session.expires > 0 && session.post_expiry_grace_period >= 0 {
            let now = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
            session.expires.saturating_sub(now).saturating_add(session.post_expiry_grace_period).max(1)
        } else {
            session.lifetime_seconds
        };
        let millis = match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => seconds.saturating_mul(1_000),
            _ => u64::try_from(otherwise.as_millis()).unwrap_or(u64::MAX),
        };
        if millis > 0 { Self::Millis(millis) } else { Self::Forever }
    }
}

/// A record with its end, where it is kept in this process or its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) expires_ms: Option<u64>,
}

impl Entry {
    pub(super) fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| expires > now_ms)
    }
}

impl Write {
    /// What is to be kept in place of `old`, which is live; nothing where the condition does not hold.
    pub(super) fn decide(&self, old: Option<&Entry>, now_ms: u64) -> Option<Entry> {
        let holds = match &self.only_if {
            OnlyIf::Always => true,
            OnlyIf::Absent => old.is_none(),
            OnlyIf::Is(expected) => old.is_some_and(|old| old.value == expected),
        };
        let expires_ms = match self.life {
            Life::Forever => None,
            Life::Millis(ms) => Some(now_ms.saturating_add(ms.max(1))),
            Life::Kept => old.and_then(|old| old.expires_ms),
        };
        holds.then(|| Entry { value: self.value.clone(), expires_ms })
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is in this part.
    pub items: Vec<T>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// A place in a list, as the store itself gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(super) Box<str>);

impl Cursor {
    /// Takes what [`Cursor::as_str`] gave, from a caller of the control port, say. A place that the store did not give may
    /// begin anywhere.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= 512 && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The place as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_life(session: &Session, expected: Life) {
        assert_eq!(Life::of(session, Duration::ZERO, 1_000_000), expected);
    }

    #[test]
    fn a_session_is_kept_for_its_lifetime_or_until_the_grace_is_over() {
        let plain = Session { expires: 1_100, ..Session::default() };
        check_life(&plain, Life::Forever);
        check_life(&Session { lifetime_seconds: 5, ..plain.clone() }, Life::Millis(5_000));
        check_life(&Session { lifetime_seconds: -5, ..plain.clone() }, Life::Forever);
        let deleted = Session { post_expiry_action: PostExpiryAction::Delete, post_expiry_grace_period: 20, ..plain };
        check_life(&deleted, Life::Millis(120_000));
        assert_eq!(Life::of(&deleted, Duration::from_secs(9), 1_000_000), Life::Millis(120_000));
        let never = Session { post_expiry_grace_period: -1, ..deleted.clone() };
        check_life(&never, Life::Forever);
        assert_eq!(Life::of(&never, Duration::from_secs(9), 1_000_000), Life::Millis(9_000));
        check_life(&Session { post_expiry_grace_period: i64::MAX, ..deleted }, Life::Millis(u64::MAX));
    }
}
