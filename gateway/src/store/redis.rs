//! A store on Redis, which gateways share: one server, or a cluster.
//!
//! What a Tyk tool reads is kept as Tyk keeps it: `apikey-<hash>` and `quota-<hash>`. Whatever must be atomic is one script;
//! its keys share a hash tag, so in a cluster it runs in one slot. Rates are counted by the server's time: gateways whose
//! clocks differ would each end a window at another moment, and the fastest would let more through than the limit.

mod circuit;
mod client;
pub(super) mod kv;
mod link;
mod listen;
mod question;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use smallvec::SmallVec;

use self::link::Link;
use self::question::{Question, Script};
use super::Numbers;
use super::error::{OpenError, StoreError, StoreTrouble};
use super::event::{Event, Events};
use super::limit::{Allowance, Owner, QuotaState, RateState, RateUse, Take, Verdict};
use super::record::{Cursor, Delete, Entry, Life, OnlyIf, Page, Table, Write, Written};
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::model::limit::{Algorithm, QuotaLimit};
use crate::model::store::{RedisClock, RedisSettings, StoreLimits};

/// A store on Redis.
pub(super) struct Redis {
    link: Arc<Link>,
    numbers: Arc<Numbers>,
    clock: RedisClock,
    is_cluster: bool,
    records_max: usize,
}

impl Redis {
    pub(super) fn open(
        settings: &RedisSettings,
        limits: &StoreLimits,
        events: &Events,
        numbers: &Arc<Numbers>,
    ) -> Result<Self, OpenError> {
        let link = Arc::new(Link::open(settings, events, numbers)?);
        let (clock, is_cluster) = (settings.clock, settings.cluster);
        Ok(Self { link, numbers: numbers.clone(), clock, is_cluster, records_max: limits.records_max })
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.link.trouble()
    }

    pub(super) async fn read(&self, table: Table, key: &str, clock: &Clock) -> Result<Option<Entry>, StoreError> {
        let question = match table {
            Table::Sessions => Question::script(Script::Read, true).key(session_key(key)),
            Table::Policies => Question::command("HGET", true).arg(POLICIES).arg(key),
        };
        // A policy has no end, and its answer no second part.
        let (value, life_ms) = match self.link.ask(question).await? {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([value, Value::Int(life_ms)]) => (value, life_ms),
                _ => return Err(unexpected()),
            },
            value => (value, -1),
        };
        match value {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => {
                let expires_ms = u64::try_from(life_ms).ok().map(|life| clock.now_ms().saturating_add(life));
                Ok(Some(Entry { value: bytes.into(), expires_ms }))
            }
            _ => Err(unexpected()),
        }
    }

    /// One script where one server has all keys.
    pub(super) async fn write(&self, write: &Write, clock: &Clock) -> Result<Written, StoreError> {
        let Some(share) = write.share.as_deref() else {
            // What an operator writes is the operator's. Out first, or it could be deleted as one too many.
            if write.table == Table::Sessions && write.life != Life::Kept {
                self.leave(&write.key).await?;
            }
            return written(self.link.ask(question(write, Script::Write, self.records_max)).await?);
        };
        let now_ms = match self.clock {
            RedisClock::Server => 0,
            RedisClock::Gateway => clock.now_ms(),
        };
        let list = format!("{MADE}-{}", share.api);
        let enter = |question: Question| {
            question
                .key(list)
                .key(MADE)
                .arg(now_ms.to_string())
                .arg(&*write.key)
                .arg(life_ms(write.life))
                .arg(share.sessions_max.max(1).to_string())
                .arg(LEAVE_MAX)
        };
        if !self.is_cluster {
            let keep = enter(question(write, Script::Keep, self.records_max));
            return written(self.link.ask(keep.arg(SESSION_PREFIX).arg(SESSION_DELETED)).await?);
        }
        let write = question(write, Script::Write, self.records_max);
        // Asked twice, somebody more may leave.
        let enter = enter(Question::script(Script::Enter, true));
        // A task of its own: a caller that goes between two steps must not leave a session without a place.
        let keeping = tokio::spawn(keep_in_cluster(self.link.clone(), write, enter));
        keeping.await.map_err(|_| StoreError::away("the gateway is ending"))?
    }

    pub(super) async fn delete(&self, delete: &Delete) -> Result<bool, StoreError> {
        let is_deleted = erase(&self.link, delete).await?;
        if is_deleted && delete.table == Table::Sessions {
            // It is deleted all the same; its place goes at its end at the latest.
            let _ = self.leave(&delete.key).await;
        }
        Ok(is_deleted)
    }

    /// Gives back the place of a session, where a plugin made it.
    async fn leave(&self, key: &str) -> Result<(), StoreError> {
        self.link.ask(Question::script(Script::Leave, true).key(MADE).arg(key)).await.map(|_| ())
    }

    pub(super) async fn list(
        &self,
        table: Table,
        from: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<String>, StoreError> {
        match table {
            Table::Sessions => scan::sessions(&self.link, self.is_cluster, from, max).await,
            Table::Policies => scan::policies(&self.link, from, max).await,
        }
    }

    /// One script, or one for each owner in a cluster: there, what earlier ones counted is taken back when a later one
    /// refuses. Asked again after a lost connection, a request may count twice and never not at all.
    pub(super) async fn take(&self, take: &Take, clock: &Clock) -> Result<Verdict, StoreError> {
        take.check()?;
        let now_us = match self.clock {
            RedisClock::Server => 0,
            RedisClock::Gateway => clock.now_ms().saturating_mul(1_000),
        };
        let mut allowance =
            Allowance { rates: SmallVec::from_elem(RateState::default(), take.rates.len()), quota: None };
        let mut counted: SmallVec<[(Group, i64); 2]> = SmallVec::new();
        for group in self.groups(take) {
            let asked = self.link.ask(group.question(take, Script::Take, now_us, self.clock)).await;
            let answer = asked.map_err(uncounted)?;
            match group.read(&numbers(&answer)?, take, clock.now_ms(), &mut allowance)? {
                Ok(at) => counted.push((group, at)),
                Err(refused) => {
                    for (group, at) in counted {
                        let at = u64::try_from(at).unwrap_or(0);
                        self.link.ask(group.question(take, Script::Refund, at, self.clock)).await?;
                    }
                    return Ok(refused);
                }
            }
        }
        Ok(Verdict::Allowed(allowance))
    }

    pub(super) async fn quota(
        &self,
        owner: &Owner,
        limit: &QuotaLimit,
        clock: &Clock,
    ) -> Result<QuotaState, StoreError> {
        let question = Question::script(Script::Quota, true).key(owner.as_str()).arg("read");
        let answer = numbers(&self.link.ask(question).await?)?;
        let [used, life] = answer[..] else { return Err(unexpected()) };
        let has_begun = used >= 0 && (life >= 0 || limit.renewal_ms().is_none());
        Ok(quota_state(limit, if has_begun { used } else { 0 }, life, clock.now_ms()))
    }

    pub(super) async fn set_quota(&self, owner: &Owner, used: Option<(u64, &QuotaLimit)>) -> Result<(), StoreError> {
        let question = Question::script(Script::Quota, true).key(owner.as_str());
        let question = match used {
            None => question.arg("reset"),
            Some((used, limit)) => {
                question.arg("set").arg(used.to_string()).arg(limit.renewal_ms().unwrap_or(0).to_string())
            }
        };
        self.link.ask(question).await.map(|_| ())
    }

    pub(super) async fn announce(&self, event: &Event) -> Result<(), StoreError> {
        let question = Question::command("PUBLISH", true).arg(CHANNEL).arg(event.to_message());
        self.link.ask(question).await.map(|_| ())
    }

    /// Everything at once, or by owner in a cluster: the quota's last, so that a quota need never be given back.
    fn groups(&self, take: &Take) -> SmallVec<[Group; 2]> {
        let mut groups: SmallVec<[Group; 2]> = SmallVec::new();
        let quota = take.quota.as_ref().map(|quota| &quota.owner);
        if !self.is_cluster {
            let rates = (0..take.rates.len()).collect();
            groups.push(Group { rates, has_quota: quota.is_some() });
            return groups;
        }
        let mut owners: SmallVec<[&Owner; 3]> = SmallVec::new();
        let others = take.rates.iter().map(RateUse::owner).filter(|owner| Some(*owner) != quota);
        for owner in others.chain(quota) {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        for owner in owners {
            let of_owner = take.rates.iter().enumerate().filter(|(_, rate)| rate.owner() == owner);
            groups.push(Group { rates: of_owner.map(|(index, _)| index).collect(), has_quota: Some(owner) == quota });
        }
        groups
    }
}

/// What one script counts: some of the rates of a take, by their index, and perhaps its quota.
struct Group {
    rates: SmallVec<[usize; 3]>,
    has_quota: bool,
}

impl Group {
    fn question(&self, take: &Take, script: Script, now_us: u64, clock: RedisClock) -> Question {
        let rates = || self.rates.iter().filter_map(|index| take.rates.get(*index));
        let quota = take.quota.as_ref().filter(|_| self.has_quota && script == Script::Take);
        let mut question = Question::script(script, script == Script::Take);
        for rate in rates() {
            question = question.key(rate.name());
        }
        if let Some(quota) = quota {
            question = question.key(quota.owner.as_str());
        }
        question = question.arg(now_us.to_string()).arg(spare_ms(clock)).arg(self.rates.len().to_string());
        for rate in rates() {
            let (kind, burst) = match rate.algorithm {
                Algorithm::Fixed => ("f", 0),
                Algorithm::Sliding => ("s", 0),
                Algorithm::Smooth { burst } => ("g", u64::from(burst).clamp(1, rate.limit.max())),
            };
            let (pay, cost) = rate.limit.smooth();
            question = question.arg(kind);
            for number in [rate.limit.max(), rate.limit.per_us(), pay, cost, burst] {
                question = question.arg(number.to_string());
            }
        }
        if let Some(quota) = quota {
            let renewal_ms = quota.limit.renewal_ms().unwrap_or(0);
            question = question.arg(quota.limit.max().to_string()).arg(renewal_ms.to_string());
        }
        question
    }

    /// The time at which it was counted, or the refusal.
    fn read(
        &self,
        answer: &[i64],
        take: &Take,
        now_ms: u64,
        allowance: &mut Allowance,
    ) -> Result<Result<i64, Verdict>, StoreError> {
        match answer {
            [1, at, states @ .., used, life] if states.len() == self.rates.len() * 2 => {
                for (index, state) in self.rates.iter().zip(states.chunks_exact(2)) {
                    let (Some(rate), Some(place)) = (take.rates.get(*index), allowance.rates.get_mut(*index)) else {
                        return Err(unexpected());
                    };
                    let [remaining, reset] = *state else { return Err(unexpected()) };
                    let remaining = u64::try_from(remaining).unwrap_or(0);
                    *place = RateState { limit: rate.limit.max(), remaining, reset: micros(reset) };
                }
                if let Some(quota) = take.quota.as_ref().filter(|_| self.has_quota) {
                    allowance.quota = Some(quota_state(&quota.limit, *used, *life, now_ms));
                }
                Ok(Ok(*at))
            }
            [2, index, wait] => {
                let by = usize::try_from(*index).ok().and_then(|index| self.rates.get(index)).copied();
                let by = by.ok_or_else(unexpected)?;
                let limit = take.rates.get(by).ok_or_else(unexpected)?.limit.max();
                Ok(Err(Verdict::Limited { by, limit, retry_after: micros(*wait) }))
            }
            [3, used, life] => {
                let quota = take.quota.as_ref().ok_or_else(unexpected)?;
                Ok(Err(Verdict::QuotaExceeded(quota_state(&quota.limit, *used, *life, now_ms))))
            }
            _ => Err(unexpected()),
        }
    }
}

/// A life below zero is none: the quota never renews, or has not begun.
fn quota_state(limit: &QuotaLimit, used: i64, life_ms: i64, now_ms: u64) -> QuotaState {
    let used = u64::try_from(used).unwrap_or(0);
    let renews_ms = u64::try_from(life_ms).ok().map(|life| now_ms.saturating_add(life));
    QuotaState { max: limit.max(), remaining: limit.max().saturating_sub(used), renews_ms }
}

fn numbers(answer: &Value) -> Result<SmallVec<[i64; 10]>, StoreError> {
    let Value::Array(values) = answer else { return Err(unexpected()) };
    let number = |value: &Value| match value {
        Value::Int(number) => Ok(*number),
        _ => Err(unexpected()),
    };
    values.iter().map(number).collect()
}

/// How much longer than its content a key lives. A clock that a test moves stands still while the server's runs.
const fn spare_ms(clock: RedisClock) -> &'static str {
    match clock {
        RedisClock::Server => "1000",
        RedisClock::Gateway => "600000",
    }
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

fn place(table: Table, key: &str) -> (String, &str) {
    match table {
        Table::Sessions => (session_key(key), ""),
        Table::Policies => (POLICIES.to_owned(), key),
    }
}

/// A session is written, then it is entered into its API's list, then those who left that are deleted: who is in the list has
/// been written, so nobody is deleted too early.
async fn keep_in_cluster(link: Arc<Link>, write: Question, enter: Question) -> Result<Written, StoreError> {
    let mut done = written(link.ask(write).await?)?;
    if done.is_done {
        done.evicted = names(link.ask(enter).await?)?;
    }
    for key in &done.evicted {
        let Ok(hash) = KeyHash::guess(key) else { continue };
        let event = Event::SessionDeleted(hash);
        // Whether or not this succeeds, the caller's own session is kept.
        let _ = erase(&link, &Delete { table: Table::Sessions, key: key.clone(), event }).await;
    }
    Ok(done)
}

async fn erase(link: &Link, delete: &Delete) -> Result<bool, StoreError> {
    let (key, field) = place(delete.table, &delete.key);
    let question = Question::script(Script::Delete, false).key(key).arg(field).arg(CHANNEL);
    match link.ask(question.arg(delete.event.to_message())).await? {
        Value::Int(deleted) => Ok(deleted > 0),
        _ => Err(unexpected()),
    }
}

/// What a script that writes is asked.
fn question(write: &Write, script: Script, records_max: usize) -> Question {
    let (key, field) = place(write.table, &write.key);
    let (mode, expected): (_, &[u8]) = match &write.only_if {
        OnlyIf::Always => ("always", b""),
        OnlyIf::Absent => ("absent", b""),
        OnlyIf::Is(expected) => ("is", expected),
    };
    // Made twice, an unconditional write is the same; the answer to another one would be wrong.
    Question::script(script, write.only_if == OnlyIf::Always)
        .key(key)
        .arg(field)
        .arg(&write.value[..])
        .arg(mode)
        .arg(expected)
        .arg(life_ms(write.life))
        .arg(records_max.to_string())
        .arg(CHANNEL)
        .arg(write.event.to_message())
}

/// What became of a write: a number, and with it perhaps who had to leave.
fn written(answer: Value) -> Result<Written, StoreError> {
    let (done, evicted) = match answer {
        Value::Array(mut parts) if !parts.is_empty() => {
            let evicted = parts.split_off(1);
            (parts.pop().unwrap_or(Value::Nil), names(Value::Array(evicted))?)
        }
        done => (done, Vec::new()),
    };
    match done {
        Value::Int(1) => Ok(Written { is_done: true, evicted }),
        Value::Int(0) => Ok(Written::alone(false)),
        Value::Int(-1) => Err(StoreError::Full("`records_max`")),
        _ => Err(unexpected()),
    }
}

fn names(answer: Value) -> Result<Vec<Box<str>>, StoreError> {
    let Value::Array(names) = answer else { return Err(unexpected()) };
    let name = |value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map(String::into_boxed_str).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    };
    names.into_iter().map(name).collect()
}

fn life_ms(life: Life) -> String {
    match life {
        Life::Forever => "0".to_owned(),
        Life::Millis(ms) => ms.clamp(1, LIFE_MS_MAX).to_string(),
        Life::Kept => "-1".to_owned(),
    }
}

fn session_key(key: &str) -> String {
    format!("{SESSION_PREFIX}{key}")
}

/// A server that has no room counts as little as one that is away.
fn uncounted(error: StoreError) -> StoreError {
    match error {
        StoreError::Full(reason) => StoreError::away(reason),
        error => error,
    }
}

fn unexpected() -> StoreError {
    StoreError::away("redis gave an answer that fits no question")
}

const SESSION_PREFIX: &str = "apikey-";
/// The names of the lists of sessions that plugins made: this one, and an API's id. One hash tag has them in one slot.
const MADE: &str = "{stile-made}";
/// Before the name of a session that a plugin made: the news that it is deleted, as [`Event::to_message`] has it.
const SESSION_DELETED: &str = "session-deleted sha256 ";
/// Sessions that leave for one, where there were far too many.
const LEAVE_MAX: &str = "100";
const POLICIES: &str = "stile-policies";
/// Where gateways tell each other of changes.
const CHANNEL: &str = "stile-events";
/// A hundred years: longer ones overflow in the server.
const LIFE_MS_MAX: u64 = 100 * 366 * 86_400_000;
