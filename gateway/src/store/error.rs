//! Why a store gave no answer.

use std::sync::Arc;
use std::time::Duration;

/// Why a store gave no answer. What was asked for may have happened all the same where [`StoreError::is_away`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or lost the connection.
    #[error("store is away: {0}")]
    Away(Arc<str>),
    /// The store did not answer in time.
    #[error("store did not answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The store was not asked: it has been away, and no probe has succeeded yet.
    #[error("store has been away and is not asked until a probe succeeds")]
    CircuitOpen,
    /// Too many calls wait for the store.
    #[error("too many calls wait for the store")]
    Busy,
    /// What is kept is not what was written by Tyk or by us.
    #[error("stored `{key}` cannot be read: {reason}")]
    Corrupt {
        /// Under which name it is kept.
        key: Arc<str>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// A session or policy is larger than `record_bytes_max`.
    #[error("record is larger than `record_bytes_max`")]
    TooLarge,
    /// There is no room for another record or counter.
    #[error("no room for another one: {0}")]
    Full(&'static str),
    /// A call was made in a wrong way.
    #[error("not a valid call: {0}")]
    Invalid(&'static str),
}

impl StoreError {
    /// Whether the store is away, so that the configured fall-back is to be used. The other errors are about one record or
    /// one call.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Deadline(_) | Self::CircuitOpen | Self::Busy)
    }

    pub(super) fn away(reason: impl std::fmt::Display) -> Self {
        Self::Away(reason.to_string().into())
    }

    pub(super) fn corrupt(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { key: key.into(), reason: reason.to_string().into() }
    }
}

/// What is wrong with a store at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreTrouble {
    /// It is given up until it answers a probe; meanwhile `store.away` rules.
    #[error("away for {} s: {reason}", .elapsed.as_secs())]
    Away {
        /// For how long.
        elapsed: Duration,
        /// What the last call was told before it was given up.
        reason: Arc<str>,
    },
    /// It answers, but keeps nothing new: its disk or memory is full, or it is a copy that must not be written to.
    #[error("answers, but has refused to write for {} s: {reason}", .elapsed.as_secs())]
    Unwritten {
        /// For how long.
        elapsed: Duration,
        /// What the first write was told that was refused.
        reason: Arc<str>,
    },
    /// It answers, but what other gateways change is not told.
    #[error("changes by other gateways are not heard: sessions are read from the store for each request")]
    Unheard,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened; another gateway may have it.
    #[error("store `{}` cannot be opened: {reason}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system or the store said.
        reason: String,
    },
    /// The settings of Redis cannot be used.
    #[error("store on redis cannot be set up: {0}")]
    Redis(String),
    /// A thread cannot be started.
    #[error("cannot start a thread of the store: {0}")]
    Thread(#[source] std::io::Error),
}
