//! A store under test, with a second gateway on it and a clock that the test moves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::server::{Cluster, Server};
use crate::clock::Clock;
use crate::model::store::{EmbeddedSettings, RedisSettings, StoreKind, StoreSettings};
use crate::store::Store;

/// Two gateways on one store. Where a store cannot be shared, they are one.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) other: Store,
    pub(super) clock: Clock,
    /// Dropped after the stores.
    _folder: Option<Folder>,
    servers: Vec<Server>,
}

impl Bench {
    pub(super) async fn memory() -> Self {
        Self::of(StoreKind::Memory)
    }

    pub(super) async fn embedded() -> Self {
        let folder = Folder::new();
        let mut bench = Self::of(StoreKind::Embedded(EmbeddedSettings::new(folder.path().join("store"))));
        bench._folder = Some(folder);
        bench
    }

    pub(super) async fn redis() -> Self {
        let server = Server::start();
        Self::on(server.settings(), vec![server]).await
    }

    pub(super) async fn redis_with_tls() -> Self {
        let server = Server::with_tls();
        Self::on(server.settings(), vec![server]).await
    }

    pub(super) async fn redis_cluster() -> Self {
        let cluster = Cluster::start();
        Self::on(cluster.settings(), cluster.nodes).await
    }

    /// Two gateways, when both hear each other.
    async fn on(settings: RedisSettings, servers: Vec<Server>) -> Self {
        let clock = clock();
        let settings = StoreSettings { kind: StoreKind::Redis(settings), ..StoreSettings::default() };
        let store = Store::open(&settings, clock.clone()).expect("it opens");
        let other = Store::open(&settings, clock.clone()).expect("it opens");
        for store in [&store, &other] {
            whole(store).await;
        }
        Self { store, other, clock, _folder: None, servers }
    }

    /// Forgets everything, so that another test can begin.
    pub(super) fn clear(&self) {
        for server in &self.servers {
            server.tell(redis::cmd("FLUSHALL").arg("SYNC"));
        }
    }

    fn of(kind: StoreKind) -> Self {
        let clock = clock();
        let settings = StoreSettings { kind, ..StoreSettings::default() };
        let store = Store::open(&settings, clock.clone()).expect("it opens");
        Self { other: store.clone(), store, clock, _folder: None, servers: Vec::new() }
    }

    /// Moves the clock, and what the store itself counts down.
    pub(super) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        for server in &self.servers {
            server.age(by);
        }
    }
}

/// Waits until every change is heard.
pub(super) async fn whole(store: &Store) {
    let mut subscription = store.subscribe();
    while !store.0.events.is_whole() {
        // It is told of a subscription just before it counts; the next look finds it.
        let _ = tokio::time::timeout(Duration::from_millis(50), subscription.next()).await;
    }
}

/// A clock that stands at a whole hour of 2026.
pub(super) fn clock() -> Clock {
    Clock::manual(1_795_395_600_000)
}

/// A folder that goes with the test.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stile-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files takes another");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
