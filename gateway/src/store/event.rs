//! News of changed sessions and policies, for all who keep copies of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[cfg(test)]
use tokio::sync::broadcast;
use tokio::sync::watch;

use crate::model::key::{HashAlgorithm, KeyHash};
use crate::model::policy::PolicyId;

/// Something changed in the store, here or in another gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session was made, replaced or updated.
    SessionChanged(KeyHash),
    /// A session was deleted.
    SessionDeleted(KeyHash),
    /// A policy was put or deleted.
    PolicyChanged(PolicyId),
    /// Definitions are to be read again.
    Reload,
    /// News may have been missed: copies are to be dropped.
    Lost,
}

/// Receives events from now on, for tests that wait for one. The gateway has listeners: they are never behind.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Subscription(broadcast::Receiver<Event>);

#[cfg(test)]
impl Subscription {
    /// The next event; `None` when the store is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => panic!("{missed} events were missed"),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Told of each event at once, before the write that caused it is answered.
pub trait Listener: Send + Sync {
    /// It happened.
    fn told(&self, event: &Event);
}

/// Tells events within this process.
#[derive(Clone)]
pub(super) struct Events(Arc<Shared>);

struct Shared {
    /// Whether every event comes through, so that copies may be kept.
    is_whole: AtomicBool,
    #[cfg(test)]
    sender: broadcast::Sender<Event>,
    /// Apart from the others, so that who waits for these is not woken by each session.
    reloads: watch::Sender<u64>,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            is_whole: AtomicBool::new(true),
            #[cfg(test)]
            sender: broadcast::channel(10_000).0,
            reloads: watch::channel(0).0,
            listeners: Mutex::default(),
        }))
    }

    pub(super) fn tell(&self, event: Event) {
        if matches!(event, Event::Reload | Event::Lost) {
            self.0.reloads.send_modify(|count| *count = count.wrapping_add(1));
        }
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.told(&event);
        }
        // Nobody waiting is no error.
        #[cfg(test)]
        let _ = self.0.sender.send(event);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.0.is_whole.load(Ordering::Acquire)
    }

    pub(super) fn set_whole(&self, is_whole: bool) {
        self.0.is_whole.store(is_whole, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn subscribe(&self) -> Subscription {
        Subscription(self.0.sender.subscribe())
    }

    pub(super) fn reloads(&self) -> watch::Receiver<u64> {
        self.0.reloads.subscribe()
    }

    pub(super) fn listen(&self, listener: Weak<dyn Listener>) {
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(listener);
    }
}

impl Event {
    /// As it goes from gateway to gateway.
    pub(super) fn to_message(&self) -> String {
        let session = |what: &str, key: &KeyHash| format!("{what} {} {key}", key.algorithm().as_str());
        match self {
            Self::SessionChanged(key) => session("session-changed", key),
            Self::SessionDeleted(key) => session("session-deleted", key),
            Self::PolicyChanged(id) => format!("policy-changed {id}"),
            Self::Reload => "reload".to_owned(),
            Self::Lost => "lost".to_owned(),
        }
    }

    /// Reads what another gateway sent. What cannot be read may have been anything: [`Event::Lost`].
    pub(super) fn from_message(message: &str) -> Self {
        let key = |text: &str| {
            let (algorithm, hash) = text.split_once(' ')?;
            KeyHash::parse(HashAlgorithm::parse(algorithm)?, hash).ok()
        };
        let (what, rest) = message.split_once(' ').unwrap_or((message, ""));
        let event = match what {
            "session-changed" => key(rest).map(Self::SessionChanged),
            "session-deleted" => key(rest).map(Self::SessionDeleted),
            "policy-changed" => PolicyId::parse(rest).ok().map(Self::PolicyChanged),
            "reload" => Some(Self::Reload),
            _ => None,
        };
        event.unwrap_or(Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_goes_from_gateway_to_gateway() {
        let (key, id) = (KeyHash::of("k"), PolicyId::parse("a policy").expect("it is an id"));
        let events =
            [Event::SessionChanged(key.clone()), Event::SessionDeleted(key), Event::PolicyChanged(id), Event::Reload];
        for event in events {
            assert_eq!(Event::from_message(&event.to_message()), event);
        }
    }

    #[test]
    fn what_cannot_be_read_means_that_news_were_lost() {
        for message in ["", "lost", "session-changed", "session-deleted sha256 xyz", "policy-changed ", "later 1"] {
            assert_eq!(Event::from_message(message), Event::Lost, "{message}");
        }
    }
}
