//! Asks again for plugins that could not be fetched, without anybody telling: with pauses that grow, and on a thread of its own,
//! so that no reload waits for a server that is silent.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Live;
use crate::fetch::{FetchError, Fetched, Fetcher};
use crate::model::gateway::FetchSettings;
use crate::model::plugin::PluginSpec;

/// What came of asking again for a plugin.
pub(super) struct Brought {
    /// As it was declared then.
    pub(super) spec: PluginSpec,
    /// Its file, or another reason than before.
    pub(super) fetched: Result<Fetched, FetchError>,
}

/// Asks again for what [`Snapshot::awaited`](super::Snapshot) has.
pub(super) struct Retry {
    fetcher: Fetcher,
    live: Live,
    pauses: Pauses,
    /// When it asks next.
    due: Option<Instant>,
    /// It is asking.
    round: Option<mpsc::Receiver<Brought>>,
}

/// Each twice as long as the one before, up to a bound, and up to a quarter shorter by chance: gateways that lost the same
/// server are not to ask it all at once when it is back.
struct Pauses {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Retry {
    pub(super) fn new(settings: &FetchSettings, fetcher: &Fetcher, live: &Live) -> Self {
        let pauses = Pauses::new(settings.retry_pause_min, settings.retry_pause_max);
        Self { fetcher: fetcher.clone(), live: live.clone(), pauses, due: None, round: None }
    }

    /// Waits for something else to come of asking than before. Dropping it loses nothing.
    pub(super) async fn brought(&mut self) -> Vec<Brought> {
        loop {
            if let Some(round) = &mut self.round {
                let mut brought = Vec::new();
                if round.recv_many(&mut brought, BROUGHT_MAX).await > 0 {
                    return brought;
                }
                self.round = None;
            }
            if self.live.snapshot().awaited().next().is_none() {
                self.due = None;
                self.pauses.begin_anew();
                return std::future::pending().await;
            }
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.pauses.take());
            tokio::time::sleep_until(due).await;
            self.due = None;
            self.round = Some(self.ask());
        }
    }

    /// Pauses are short again: somebody reloaded, or changed what there is.
    pub(super) fn begin_anew(&mut self) {
        self.pauses.begin_anew();
        // Whoever changes something all the time puts nothing off.
        self.due = self.due.map(|due| due.min(Instant::now() + self.pauses.min));
    }

    /// Asks for all of them, one after the other; what is the same as before is not told.
    fn ask(&self) -> mpsc::Receiver<Brought> {
        let (tell, told) = mpsc::channel(BROUGHT_MAX);
        let (fetcher, live) = (self.fetcher.clone(), self.live.clone());
        tokio::task::spawn_blocking(move || {
            let round = fetcher.round();
            let specs: Vec<PluginSpec> = live.snapshot().awaited().map(|refused| refused.spec.clone()).collect();
            for spec in specs {
                let snapshot = live.snapshot();
                // A reload may have brought it meanwhile, or taken it away.
                let Some(refused) = snapshot.awaits(&spec) else { continue };
                fetcher.numbers().retried.fetch_add(1, Ordering::Relaxed);
                let fetched = round.fetch(&spec);
                let error = fetched.as_ref().map_or_else(Some, |fetched| fetched.stale.as_ref());
                if let Some(error) = error {
                    tracing::debug!(plugin = %spec.name, %error, "asked again in vain");
                }
                if error.is_some() && error == refused.unheard.as_ref() {
                    continue;
                }
                if tell.blocking_send(Brought { spec, fetched }).is_err() {
                    return;
                }
            }
        });
        told
    }
}

impl Pauses {
    const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        let chance = u32::try_from(RandomState::new().hash_one(()) % 1_000).unwrap_or(0);
        pause - pause.mul_f64(f64::from(chance) / 4_000.0)
    }

    const fn begin_anew(&mut self) {
        self.next = self.min;
    }
}

/// Files that wait to be taken up, and as many that are taken up at once: each may be large.
const BROUGHT_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew() {
        let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_millis(500));
        let mut is_about = |millis: u64| {
            let (pause, whole) = (pauses.take(), Duration::from_millis(millis));
            assert!(whole * 3 / 4 <= pause && pause <= whole, "{pause:?} instead of {whole:?}");
        };
        [100, 200, 400, 500, 500].into_iter().for_each(&mut is_about);
        pauses.begin_anew();
        assert!(pauses.take() <= Duration::from_millis(100));
        let bound = Duration::from_millis(500);
        let different: HashSet<Duration> = (0..20).map(|_| Pauses::new(bound, bound).take()).collect();
        assert!(different.len() > 1, "gateways do not ask all at once");
    }
}
