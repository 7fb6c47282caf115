//! Whether a version of a plugin is called at all: one that does nothing but fail is taken out for a while, and then probed.
//!
//! What decides is the share of calls that fail, not their number alone: a caller whose own requests make the plugin fail must
//! not take it from others. For the same reason a caller that has not failed yet gets a probe of its own.

mod window;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::window::{Noted, Sums, Window};
use super::failure::{CallError, Fault};
use crate::clock::Clock;
use crate::model::id::PluginName;
use crate::model::plugin::{FailureKind, Quarantine as Rules};
use crate::telemetry::metrics::QuarantineMetrics;

/// The quarantine of one loaded version of a plugin. All cores share it; while nothing fails, a call costs one look at an atomic.
pub struct Quarantine {
    rules: Rules,
    plugin: PluginName,
    digest: String,
    clock: Clock,
    metrics: QuarantineMetrics,
    state: AtomicU8,
    window: Window,
    /// When calls began to be counted.
    watched_since_ms: AtomicU64,
    /// Touched on entering, within and on leaving; never by the calls of a healthy plugin.
    record: Mutex<Record>,
}

/// Nothing failed in the window: calls that go well are not counted.
const CLEAN: u8 = 0;
/// Something did: every call is counted.
const WATCHED: u8 = 1;
/// No calls but probes.
const SHUT: u8 = 2;

#[derive(Default)]
struct Record {
    shut: Option<Shut>,
    /// When the last quarantine ended, and which pause it had come to.
    left: Option<(u64, Duration)>,
    /// Quarantines so far: a probe of one says nothing about another.
    rounds: u64,
}

struct Shut {
    round: u64,
    since_ms: u64,
    began_ms: u64,
    pause: Duration,
    probe_at_ms: u64,
    is_probing: bool,
    /// Callers who failed, or try, in this pause.
    callers: Vec<IpAddr>,
    probes: u64,
    calls_refused: u64,
    last: CallError,
}

/// What is told of a quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Calls that were let through to see whether the plugin works again.
    pub probes: u64,
    /// Calls that were not made.
    pub calls_refused: u64,
    /// When the next probe is due, from now; zero where it waits for a call, or runs.
    pub next_probe: Duration,
    /// The last failure.
    pub last: CallError,
}

/// A call that may be made. A probe that is dropped before it has settled is given back: the next call is one.
#[must_use]
pub(super) struct Pass<'q> {
    quarantine: &'q Quarantine,
    caller: Option<IpAddr>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Uncounted,
    Counted,
    Probe { round: u64, is_due: bool },
}

impl Quarantine {
    pub(super) fn new(
        plugin: &PluginName,
        digest: &str,
        rules: &Rules,
        clock: Clock,
        metrics: QuarantineMetrics,
    ) -> Self {
        Self {
            window: Window::new(rules.window),
            rules: rules.clone(),
            plugin: plugin.clone(),
            digest: digest.to_owned(),
            clock,
            metrics,
            state: AtomicU8::new(CLEAN),
            watched_since_ms: AtomicU64::new(0),
            record: Mutex::default(),
        }
    }

    /// Asks whether a call may be made; by this caller, if it is known who that is.
    pub(super) fn admit(&self, caller: Option<IpAddr>) -> Result<Pass<'_>, CallError> {
        let kind = match self.state.load(Ordering::Relaxed) {
            CLEAN => Kind::Uncounted,
            WATCHED => Kind::Counted,
            _ => self.knock(caller)?,
        };
        Ok(Pass { quarantine: self, caller, kind })
    }

    /// How it is now; none where the plugin is called as usual.
    pub fn shown(&self) -> Option<Quarantined> {
        if self.state.load(Ordering::Relaxed) != SHUT {
            return None;
        }
        let record = self.record();
        let shut = record.shut.as_ref()?;
        let left_ms = if shut.is_probing { 0 } else { shut.probe_at_ms.saturating_sub(self.clock.steady_ms()) };
        Some(Quarantined {
            since_ms: shut.since_ms,
            probes: shut.probes,
            calls_refused: shut.calls_refused,
            next_probe: Duration::from_millis(left_ms),
            last: shut.last.clone(),
        })
    }

    /// Ends it, as an operator asks: the plugin begins clean. Whether it was in quarantine.
    pub fn release(&self) -> bool {
        let mut record = self.record();
        let was_shut = self.open(&mut record, "released");
        record.left = None;
        was_shut
    }

    /// A verdict that counted as good could not be used after all.
    pub(super) fn overruled(&self, error: &CallError, caller: Option<IpAddr>) {
        self.count(Noted::Overruled, error, caller);
    }

    /// A call in quarantine: a probe, or refused.
    fn knock(&self, caller: Option<IpAddr>) -> Result<Kind, CallError> {
        let mut record = self.record();
        // It has ended meanwhile.
        let Some(shut) = &mut record.shut else { return Ok(Kind::Counted) };
        let is_due = !shut.is_probing && self.clock.steady_ms() >= shut.probe_at_ms;
        let caller = caller.map(network);
        if is_due {
            shut.is_probing = true;
        } else if let Some(caller) = caller
            && shut.callers.len() < CALLERS_MAX
            && !shut.callers.contains(&caller)
        {
            shut.callers.push(caller);
        } else {
            shut.calls_refused += 1;
            let kind = shut.last.kind.as_str();
            drop(record);
            let reason = format!("in quarantine; its last failure: {kind}");
            return Err(CallError { kind: FailureKind::Load, reason, fault: Fault::Quarantine });
        }
        shut.probes += 1;
        Ok(Kind::Probe { round: shut.round, is_due })
    }

    /// A call went well while failures are in the window.
    fn went(&self) {
        if self.window.note(self.clock.steady_ms(), Noted::Went).failed == 0 {
            // Where a failure comes in between, the next one begins to count again: nothing is lost but a few good calls.
            let _ = self.state.compare_exchange(WATCHED, CLEAN, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn count(&self, noted: Noted, error: &CallError, caller: Option<IpAddr>) {
        if !self.rules.enabled || error.fault != Fault::Plugin {
            return;
        }
        let now_ms = self.clock.steady_ms();
        match self.state.load(Ordering::Relaxed) {
            SHUT => return,
            CLEAN => {
                self.watched_since_ms.store(now_ms, Ordering::Relaxed);
                let _ = self.state.compare_exchange(CLEAN, WATCHED, Ordering::Relaxed, Ordering::Relaxed);
            }
            _ => {}
        }
        let sums = self.window.note(now_ms, noted);
        // Good calls are counted only from the first failure on. Without waiting a little for them, a burst would do.
        let watched_ms = now_ms.saturating_sub(self.watched_since_ms.load(Ordering::Relaxed));
        if watched_ms >= self.window.slice_ms() && self.is_too_much(sums) {
            self.shut(sums, now_ms, error, caller);
        }
    }

    fn is_too_much(&self, sums: Sums) -> bool {
        sums.failed > self.rules.failures_max
            && f64::from(sums.failed) >= self.rules.share_min * f64::from(sums.failed + sums.went)
    }

    fn shut(&self, sums: Sums, now_ms: u64, error: &CallError, caller: Option<IpAddr>) {
        let mut record = self.record();
        if record.shut.is_some() {
            return;
        }
        // A plugin that fails again soon was not well: its pauses go on growing.
        let is_relapse = |at_ms: u64| now_ms.saturating_sub(at_ms) < millis(self.rules.pause_max);
        let before = record.left.filter(|(at_ms, _)| is_relapse(*at_ms));
        let pause = before.map_or(self.rules.pause_min, |(_, pause)| self.longer(pause));
        record.rounds += 1;
        record.shut = Some(Shut {
            round: record.rounds,
            since_ms: self.clock.now_ms(),
            began_ms: now_ms,
            pause,
            probe_at_ms: now_ms.saturating_add(millis(pause)),
            is_probing: false,
            callers: caller.map(network).into_iter().collect(),
            probes: 0,
            calls_refused: 0,
            last: error.clone(),
        });
        self.state.store(SHUT, Ordering::Relaxed);
        self.metrics.entered();
        tracing::warn!(
            plugin = %self.plugin, digest = %self.digest, failures = sums.failed, calls = sums.failed + sums.went,
            kind = error.kind.as_str(), reason = %error.reason, pause_ms = millis(pause),
            "plugin put into quarantine: it is not called but for probes, until one succeeds"
        );
    }

    /// Ends the quarantine, if there is one.
    fn open(&self, record: &mut Record, how: &'static str) -> bool {
        let Some(shut) = record.shut.take() else { return false };
        let now_ms = self.clock.steady_ms();
        record.left = Some((now_ms, shut.pause));
        self.window.clear();
        self.state.store(CLEAN, Ordering::Relaxed);
        self.metrics.left();
        tracing::info!(
            plugin = %self.plugin, digest = %self.digest, how, probes = shut.probes, calls_refused = shut.calls_refused,
            after_ms = now_ms.saturating_sub(shut.began_ms), "plugin out of quarantine"
        );
        true
    }

    fn probe_ended(&self, round: u64, is_due: bool, caller: Option<IpAddr>, error: Option<&CallError>) {
        let mut record = self.record();
        let Some(shut) = record.shut.as_mut().filter(|shut| shut.round == round) else { return };
        match error {
            None => {
                self.open(&mut record, "probe");
            }
            Some(error) if error.fault == Fault::Plugin => {
                shut.last = error.clone();
                if is_due {
                    shut.is_probing = false;
                    shut.pause = self.longer(shut.pause);
                    shut.probe_at_ms = self.clock.steady_ms().saturating_add(millis(shut.pause));
                    // In each pause callers may show anew that it works for them.
                    shut.callers.clear();
                    shut.callers.extend(caller.map(network));
                }
                tracing::debug!(
                    plugin = %self.plugin, kind = error.kind.as_str(), reason = %error.reason,
                    pause_ms = millis(shut.pause), "probe failed"
                );
            }
            Some(_) => shut.give_back(is_due, caller),
        }
    }

    fn longer(&self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.rules.pause_max)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        if self.record().shut.is_some() {
            self.metrics.left();
        }
    }
}

impl Shut {
    /// A probe that said nothing is another call's to make.
    fn give_back(&mut self, is_due: bool, caller: Option<IpAddr>) {
        if is_due {
            self.is_probing = false;
        } else if let Some(caller) = caller.map(network) {
            self.callers.retain(|known| *known != caller);
        }
    }
}

impl Pass<'_> {
    /// Says how the call ended.
    pub(super) fn settle(mut self, error: Option<&CallError>) {
        let (quarantine, caller) = (self.quarantine, self.caller);
        match (std::mem::replace(&mut self.kind, Kind::Uncounted), error) {
            (Kind::Probe { round, is_due }, error) => quarantine.probe_ended(round, is_due, caller, error),
            (Kind::Uncounted | Kind::Counted, Some(error)) => quarantine.count(Noted::Failed, error, caller),
            (Kind::Counted, None) => quarantine.went(),
            (Kind::Uncounted, None) => {}
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Kind::Probe { round, is_due } = self.kind {
            let mut record = self.quarantine.record();
            if let Some(shut) = record.shut.as_mut().filter(|shut| shut.round == round) {
                shut.give_back(is_due, self.caller);
            }
        }
    }
}

/// What one caller has at least: an address, or all of a network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Probes by callers in one pause: enough for those who are well, and few enough where nobody is.
const CALLERS_MAX: usize = 8;

#[cfg(test)]
mod tests;
