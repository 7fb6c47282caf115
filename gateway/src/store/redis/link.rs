//! Calls over connections: one connection for each runtime, a deadline for each call, a circuit for all.
//!
//! A connection is driven by the runtime that uses it, so no call crosses threads. Where there is no runtime, as when plugins
//! are tried at load, the store's own thread makes the call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;

use super::circuit::Circuit;
use super::client::{Client, Connection};
use super::listen;
use super::question::Question;
use crate::model::store::RedisSettings;
use crate::store::error::{OpenError, StoreError};
use crate::store::event::Events;
use crate::store::writes::Writes;
use crate::store::{Numbers, StoreTrouble};

/// The way to Redis. Dropping it ends its thread.
pub(super) struct Link {
    shared: Arc<Shared>,
    /// The store's own thread.
    outside: Handle,
    _alive: watch::Sender<()>,
}

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) circuit: Circuit,
    writes: Writes,
    pub(super) deadline: Duration,
    pub(super) numbers: Arc<Numbers>,
    slots: Mutex<HashMap<Id, Arc<Slot>>>,
}

/// The connection of one runtime.
struct Slot {
    begun: Instant,
    /// When the server answered last, in milliseconds since then.
    used_ms: AtomicU64,
    /// With a number that tells it from the one before.
    connection: Mutex<Option<(u64, Connection)>>,
    /// Held by the one who connects; the number of the next connection.
    connecting: tokio::sync::Mutex<u64>,
}

impl Link {
    pub(super) fn open(settings: &RedisSettings, events: &Events, numbers: &Arc<Numbers>) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            client: Client::new(settings)?,
            circuit: Circuit::new(settings.failures_max, numbers.clone()),
            writes: Writes::default(),
            deadline: settings.deadline,
            numbers: numbers.clone(),
            slots: Mutex::default(),
        });
        let (_alive, stop) = watch::channel(());
        let outside = listen::start(shared.clone(), settings, events.clone(), stop)?;
        Ok(Self { shared, outside, _alive })
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.shared.circuit.trouble().or_else(|| self.shared.writes.trouble())
    }

    pub(super) async fn ask(&self, question: Question) -> Result<Value, StoreError> {
        if Handle::try_current().is_ok() {
            return self.shared.ask(&question, None).await;
        }
        let shared = self.shared.clone();
        let asked = self.outside.spawn(async move { shared.ask(&question, None).await });
        asked.await.map_err(|_| StoreError::away("the store's thread has ended"))?
    }

    /// Asks, and waits for so long at most. The question goes on to the store's own deadline: an asker with little time must
    /// neither count a slow server as one that is away, nor hide one that hangs.
    pub(super) async fn ask_within(&self, question: Question, deadline: Duration) -> Result<Value, StoreError> {
        let shared = self.shared.clone();
        let mut asked = Box::pin(async move { shared.ask(&question, None).await });
        match tokio::time::timeout(deadline, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                tokio::spawn(asked);
                Err(StoreError::Deadline(deadline))
            }
        }
    }

    /// Asks one node of a cluster.
    pub(super) async fn ask_node(&self, question: Question, host: &str, port: u16) -> Result<Value, StoreError> {
        if Handle::try_current().is_ok() {
            return self.shared.ask(&question, Some((host, port))).await;
        }
        let (shared, host) = (self.shared.clone(), host.to_owned());
        let asked = self.outside.spawn(async move { shared.ask(&question, Some((&host, port))).await });
        asked.await.map_err(|_| StoreError::away("the store's thread has ended"))?
    }
}

impl Shared {
    async fn ask(&self, question: &Question, node: Option<(&str, u16)>) -> Result<Value, StoreError> {
        if self.circuit.is_open() {
            return Err(StoreError::CircuitOpen);
        }
        self.ask_anyway(question, node).await
    }

    /// Asks even while the circuit is open.
    pub(super) async fn ask_anyway(&self, question: &Question, node: Option<(&str, u16)>) -> Result<Value, StoreError> {
        let slot = self.slot();
        let answer = match tokio::time::timeout(self.deadline, self.ask_on(&slot, question, node)).await {
            Ok(answer) => {
                self.note_write(question, &answer);
                answer.map_err(|error| typed(&error))
            }
            Err(_) => {
                // It may be half open; the next call makes another.
                slot.forget(None);
                Err(StoreError::Deadline(self.deadline))
            }
        };
        match &answer {
            Err(error) if error.is_away() => self.circuit.failed(error),
            _ => self.circuit.answered(),
        }
        answer
    }

    fn note_write(&self, question: &Question, answer: &Result<Value, RedisError>) {
        if !question.is_write() {
            return;
        }
        match answer {
            Ok(_) => self.writes.went_well(),
            Err(error) if error.code().is_some_and(|code| UNWRITTEN.contains(&code)) => {
                self.writes.refused(&typed(error))
            }
            Err(_) => {}
        }
    }

    async fn ask_on(&self, slot: &Slot, question: &Question, node: Option<(&str, u16)>) -> Result<Value, RedisError> {
        let mut is_second = false;
        loop {
            let (number, mut connection) = self.connection(slot).await?;
            // What may be asked once only is not asked on a connection that the server closed meanwhile: nobody could say
            // whether it was heard.
            if !question.may_repeat
                && slot.rested() > REST_MAX
                && connection.ask(&redis::cmd("PING")).await.is_err_and(|error| is_closed(&error))
            {
                slot.forget(Some(number));
                continue;
            }
            let answer = match send(&mut connection, question, node, false).await {
                Err(error) if question.is_script() && is_unknown_script(&error) => {
                    send(&mut connection, question, node, true).await
                }
                answer => answer,
            };
            match answer {
                Err(error) if is_closed(&error) => {
                    slot.forget(Some(number));
                    // Most likely the server closed it long ago and never heard the question.
                    if is_second || !question.may_repeat {
                        return Err(error);
                    }
                    is_second = true;
                }
                answer => {
                    slot.used();
                    return answer;
                }
            }
        }
    }

    async fn connection(&self, slot: &Slot) -> Result<(u64, Connection), RedisError> {
        if let Some(held) = slot.held() {
            return Ok(held);
        }
        let mut number = slot.connecting.lock().await;
        if let Some(held) = slot.held() {
            return Ok(held);
        }
        let connection = self.client.connect().await?;
        self.numbers.connections.fetch_add(1, Ordering::Relaxed);
        *number += 1;
        slot.used();
        let held = (*number, connection);
        *slot.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }

    fn slot(&self) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > RUNTIMES_MAX {
            // Those of runtimes that have ended are among them; the others connect again.
            slots.clear();
        }
        slots.entry(Handle::current().id()).or_default().clone()
    }
}

impl Default for Slot {
    fn default() -> Self {
        let (connection, connecting) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { begun: Instant::now(), used_ms: AtomicU64::new(0), connection, connecting }
    }
}

impl Slot {
    fn used(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now, Ordering::Relaxed);
    }

    /// How long the server has not been heard of.
    fn rested(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.used_ms.load(Ordering::Relaxed)))
    }

    fn held(&self) -> Option<(u64, Connection)> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the connection, unless it is another one by now.
    fn forget(&self, number: Option<u64>) {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if number.is_none() || held.as_ref().map(|(number, _)| *number) == number {
            *held = None;
        }
    }
}

async fn send(
    connection: &mut Connection,
    question: &Question,
    node: Option<(&str, u16)>,
    is_whole: bool,
) -> Result<Value, RedisError> {
    let cmd = question.to_cmd(is_whole);
    match node {
        None => connection.ask(&cmd).await,
        Some((host, port)) => connection.ask_node(&cmd, host, port).await,
    }
}

fn is_closed(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// What a server said no to is about one record; everything else means that it is away.
pub(super) fn typed(error: &RedisError) -> StoreError {
    let text = crate::telemetry::text::escaped(&error.to_string(), ERROR_BYTES_MAX).into_owned();
    match error.code() {
        Some("OOM") => StoreError::Full("redis is at its `maxmemory`"),
        Some("WRONGTYPE") => StoreError::corrupt("record", text),
        _ => StoreError::away(text),
    }
}

/// The server is full, or must not be written to.
const UNWRITTEN: [&str; 4] = ["OOM", "READONLY", "NOREPLICAS", "MISCONF"];
/// A connection that rested longer may have been closed. Takes are asked again anyway, so no request pays for this.
const REST_MAX: Duration = Duration::from_millis(200);
const RUNTIMES_MAX: usize = 1_024;
const ERROR_BYTES_MAX: usize = 512;
