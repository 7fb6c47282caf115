//! The store's own thread: hears what other gateways changed, and tries a server that is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::CHANNEL;
use super::link::{Shared, typed};
use super::question::Question;
use crate::model::store::RedisSettings;
use crate::store::error::{OpenError, StoreError};
use crate::store::event::{Event, Events};

/// Starts the thread. It ends when the sender of `stop` is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    settings: &RedisSettings,
    events: Events,
    mut stop: watch::Receiver<()>,
) -> Result<Handle, OpenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OpenError::Thread)?;
    let handle = runtime.handle().clone();
    let backoff = Backoff { min: settings.backoff_min, max: settings.backoff_max, next: settings.backoff_min };
    let ping_interval = settings.ping_interval;
    // Nothing is known to be whole before the first subscription.
    events.set_whole(false);
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                () = hear(&shared, &events, backoff.clone(), ping_interval) => {}
                () = probe(&shared, backoff.clone()) => {}
                // The sender sends nothing: this ends when it is dropped.
                _ = stop.changed() => {}
            }
        });
    };
    std::thread::Builder::new().name("stile-store-redis".to_owned()).spawn(run).map_err(OpenError::Thread)?;
    Ok(handle)
}

/// Subscribes, again and again. Between two subscriptions anything may have happened.
async fn hear(shared: &Shared, events: &Events, mut backoff: Backoff, ping_interval: Duration) {
    let mut is_told = false;
    for turn in 0.. {
        let subscribed = tokio::time::timeout(shared.deadline, shared.client.subscribe(CHANNEL, turn)).await;
        match subscribed {
            Ok(Ok((sink, stream))) => {
                backoff.reset();
                is_told = false;
                shared.circuit.answered();
                // First what was kept from before is dropped, then what is read from now on may be kept.
                events.tell(Event::Lost);
                events.set_whole(true);
                hear_whole(shared, events, sink, stream, ping_interval).await;
                events.set_whole(false);
                events.tell(Event::Lost);
                shared.numbers.subscriptions_lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("subscription to redis was lost: sessions are read from the store until it is back");
            }
            Ok(Err(error)) => {
                // So a gateway without requests knows too that the server is away, or lets nobody in. What else the server says
                // no to, such as the right to subscribe, is another matter.
                if error.is_io_error() || is_shut_out(&error) {
                    shared.circuit.failed(&typed(&error));
                }
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%error, "cannot subscribe to redis: changes by other gateways are not heard");
                }
            }
            Err(_) => {
                shared.circuit.failed(&StoreError::Deadline(shared.deadline));
                tracing::debug!("cannot subscribe to redis in time");
            }
        }
        backoff.wait().await;
    }
}

fn is_shut_out(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| matches!(code, "WRONGPASS" | "NOAUTH"))
}

/// Hears until the connection ends or a ping is not answered in time.
async fn hear_whole(
    shared: &Shared,
    events: &Events,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    ping_interval: Duration,
) {
    let mut pings = tokio::time::interval(ping_interval);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return };
                let message = std::str::from_utf8(message.get_payload_bytes()).unwrap_or("");
                events.tell(Event::from_message(message));
            }
            _ = pings.tick() => {
                // Messages that come meanwhile wait in the stream.
                let pinged = tokio::time::timeout(shared.deadline, sink.ping::<redis::Value>()).await;
                if !matches!(pinged, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Tries a server that is away until it answers.
async fn probe(shared: &Shared, mut backoff: Backoff) {
    loop {
        shared.circuit.opened().await;
        backoff.wait().await;
        if shared.ask_anyway(&Question::command("PING", true), None).await.is_ok() {
            shared.circuit.close();
            backoff.reset();
        }
    }
}

/// Waits longer each time.
#[derive(Clone)]
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = self.next.saturating_mul(2).min(self.max);
    }

    fn reset(&mut self) {
        self.next = self.min;
    }
}
