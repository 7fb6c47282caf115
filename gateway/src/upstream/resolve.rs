//! Names to addresses, remembered for a short time and asked once for all who want them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::UpstreamError;

/// A resolver shared by all cores.
///
/// A name is asked once however many wait for it. When asking again fails, the last answer serves a while longer.
pub struct Resolver {
    names: Arc<Mutex<HashMap<Arc<str>, Name>>>,
    lookup: Lookup,
}

/// Asks the system, or what a test puts in its place.
pub type Lookup = Box<dyn Fn(Arc<str>) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

type Addresses = Arc<[IpAddr]>;

#[derive(Debug, Default)]
struct Name {
    addresses: Option<(Addresses, Instant)>,
    failure: Option<(Arc<io::Error>, Instant)>,
    /// Open as long as a lookup runs.
    flight: Option<watch::Receiver<()>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Box::new(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((&*host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        }))
    }
}

impl Resolver {
    /// A resolver that asks in this way.
    pub fn new(lookup: Lookup) -> Self {
        Self { names: Arc::default(), lookup }
    }

    /// The addresses of a host, at least one. An address needs no asking.
    pub(super) async fn addresses(&self, host: &Arc<str>) -> Result<Addresses, UpstreamError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::new([address]));
        }
        let mut flight = match self.known_or_flight(host) {
            Ok(known) => return known,
            Err(flight) => flight,
        };
        // The sender says nothing; it only goes away when the answer is there.
        while flight.changed().await.is_ok() {}
        lock(&self.names).get(host).map_or_else(|| Err(no_address(host, None)), |name| name.answer(host))
    }

    /// Waits until nobody is being asked about a host: a lookup goes on when those who wanted it are gone.
    pub(super) async fn settled(&self, host: &Arc<str>) {
        let flight = lock(&self.names).get(host).and_then(|name| name.flight.clone());
        if let Some(mut flight) = flight {
            while flight.changed().await.is_ok() {}
        }
    }

    /// A fresh answer, or the lookup to wait for, started here if nobody did.
    fn known_or_flight(&self, host: &Arc<str>) -> Result<Result<Addresses, UpstreamError>, watch::Receiver<()>> {
        let mut names = lock(&self.names);
        if !names.contains_key(host) {
            make_room(&mut names);
        }
        let name = names.entry(Arc::clone(host)).or_default();
        if name.is_fresh() {
            return Ok(name.answer(host));
        }
        if let Some(flight) = &name.flight
            && flight.has_changed().is_ok()
        {
            return Err(flight.clone());
        }
        let (landed, flight) = watch::channel(());
        name.flight = Some(flight.clone());
        // A task of its own: whoever asked first may go away while others still wait.
        let (asked, names, host) = ((self.lookup)(Arc::clone(host)), Arc::clone(&self.names), Arc::clone(host));
        tokio::spawn(async move {
            let answer = asked.await;
            lock(&names).entry(host).or_default().land(answer);
            drop(landed);
        });
        Err(flight)
    }
}

impl Name {
    fn is_fresh(&self) -> bool {
        let answered = self.addresses.as_ref().is_some_and(|(_, at)| at.elapsed() < FRESH);
        let failed = self.failure.as_ref().is_some_and(|(_, at)| at.elapsed() < FAILURE);
        answered || failed
    }

    fn answer(&self, host: &Arc<str>) -> Result<Addresses, UpstreamError> {
        match &self.addresses {
            Some((addresses, at)) if at.elapsed() < FRESH + STALE => Ok(Arc::clone(addresses)),
            _ => Err(no_address(host, self.failure.as_ref().map(|(error, _)| Arc::clone(error)))),
        }
    }

    fn land(&mut self, answer: io::Result<Vec<IpAddr>>) {
        self.flight = None;
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.addresses = Some((alternate(addresses), Instant::now()));
                self.failure = None;
            }
            Ok(_) => self.failure = Some((Arc::new(io::ErrorKind::NotFound.into()), Instant::now())),
            Err(error) => self.failure = Some((Arc::new(error), Instant::now())),
        }
    }

    fn used(&self) -> Option<Instant> {
        self.addresses.as_ref().map(|(_, at)| *at).max(self.failure.as_ref().map(|(_, at)| *at))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Families in turn, beginning with the one that the system put first, so that one broken family costs one wait.
fn alternate(addresses: Vec<IpAddr>) -> Addresses {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut sorted = Vec::new();
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return sorted.into();
        }
        sorted.extend(pair.0);
        sorted.extend(pair.1);
    }
}

fn make_room(names: &mut HashMap<Arc<str>, Name>) {
    if names.len() < NAMES_MAX {
        return;
    }
    names.retain(|_, name| name.flight.is_some() || name.is_fresh());
    while names.len() >= NAMES_MAX {
        let oldest = names.iter().min_by_key(|(_, name)| name.used()).map(|(host, _)| Arc::clone(host));
        let Some(oldest) = oldest else { return };
        names.remove(&oldest);
    }
}

fn no_address(host: &Arc<str>, source: Option<Arc<io::Error>>) -> UpstreamError {
    UpstreamError::Resolve { host: Arc::clone(host), source }
}

fn lock(names: &Mutex<HashMap<Arc<str>, Name>>) -> MutexGuard<'_, HashMap<Arc<str>, Name>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

const FRESH: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(60);
const FAILURE: Duration = Duration::from_secs(1);
const NAMES_MAX: usize = 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn resolver(answers: fn(usize) -> io::Result<Vec<IpAddr>>) -> (Resolver, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let lookup: Lookup = Box::new(move |_| {
            let call = counted.fetch_add(1, SeqCst);
            Box::pin(async move {
                tokio::task::yield_now().await;
                answers(call)
            })
        });
        (Resolver::new(lookup), calls)
    }

    fn age(resolver: &Resolver, by: Duration) {
        for name in lock(&resolver.names).values_mut() {
            name.addresses = name.addresses.take().map(|(a, at)| (a, at - by));
            name.failure = name.failure.take().map(|(e, at)| (e, at - by));
        }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cause_one_lookup() {
        let (resolver, calls) = resolver(|_| Ok(vec![IpAddr::from([10, 0, 0, 1])]));
        let host: Arc<str> = "a.test".into();
        let (a, b, c) = tokio::join!(resolver.addresses(&host), resolver.addresses(&host), resolver.addresses(&host));
        assert_eq!((a.unwrap(), b.unwrap().len(), c.unwrap().len()), (Arc::from([IpAddr::from([10, 0, 0, 1])]), 1, 1));
        assert_eq!(calls.load(SeqCst), 1);
        resolver.addresses(&host).await.unwrap();
        assert_eq!(calls.load(SeqCst), 1);
        age(&resolver, FRESH);
        resolver.addresses(&host).await.unwrap();
        assert_eq!(calls.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_can_be_waited_for() {
        let (resolver, calls) = resolver(|_| Ok(vec![IpAddr::from([10, 0, 0, 1])]));
        let host: Arc<str> = "a.test".into();
        resolver.settled(&host).await;
        drop(tokio::time::timeout(Duration::ZERO, resolver.addresses(&host)).await);
        resolver.settled(&host).await;
        assert!(lock(&resolver.names).get(&host).is_some_and(|name| name.is_fresh() && name.flight.is_none()));
        assert_eq!(calls.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_answer_serves_while_asking_fails() {
        let (resolver, calls) = resolver(|call| match call {
            0 => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            _ => Err(io::ErrorKind::Other.into()),
        });
        let host: Arc<str> = "a.test".into();
        resolver.addresses(&host).await.unwrap();
        age(&resolver, FRESH);
        resolver.addresses(&host).await.unwrap();
        resolver.addresses(&host).await.unwrap();
        assert_eq!(calls.load(SeqCst), 2, "a failure is remembered for a moment");
        age(&resolver, STALE);
        assert_eq!(resolver.addresses(&host).await.unwrap_err().kind(), "resolve");
    }

    #[tokio::test]
    async fn addresses_are_not_looked_up() {
        let (resolver, calls) = resolver(|_| Err(io::ErrorKind::Other.into()));
        assert_eq!(*resolver.addresses(&"::1".into()).await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(calls.load(SeqCst), 0);
    }

    // limit: upstream::resolve::NAMES_MAX
    #[tokio::test]
    async fn names_kept_are_bounded() {
        let (resolver, _) = resolver(|_| Ok(vec![IpAddr::from([10, 0, 0, 1])]));
        for n in 0..NAMES_MAX + 10 {
            assert_eq!(lock(&resolver.names).len(), n.min(NAMES_MAX));
            resolver.addresses(&format!("{n}.test").into()).await.unwrap();
        }
        assert_eq!(lock(&resolver.names).len(), NAMES_MAX);
    }

    #[test]
    fn families_take_turns() {
        let [a, b]: [IpAddr; 2] = ["::1", "::2"].map(|a| a.parse().unwrap());
        let [c, d] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(*alternate(vec![a, b, c, d]), [a, c, b, d]);
    }
}
