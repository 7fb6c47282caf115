//! The file's threads: how much may wait for them, and how long.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bench::{Folder, clock};
use super::cache::is_pending;
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::model::store::{EmbeddedSettings, StoreKind, StoreSettings};
use crate::store::backend::Backend;
use crate::store::{Event, Life, Listener, Store, StoreError};

/// A store in a file, whose thread that reads is busy until the sender is dropped.
fn busy(settings: EmbeddedSettings) -> (Store, Sender<()>) {
    let settings = StoreSettings { kind: StoreKind::Embedded(settings), ..StoreSettings::default() };
    let store = Store::open(&settings, clock()).expect("it opens");
    let (release, released) = channel::<()>();
    let (begin, begun) = channel();
    let held = store.clone();
    tokio::spawn(async move {
        let Backend::Embedded(embedded) = &held.0.backend else { panic!("it is a file") };
        drop(embedded.hold(begin, released).await);
    });
    tokio::task::block_in_place(|| begun.recv()).expect("it begins");
    (store, release)
}

/// Holds whoever tells it of an event, which is the thread that writes, until there is a word.
struct Hold(Mutex<Receiver<()>>);

impl Listener for Hold {
    fn told(&self, _: &Event) {
        // An error: the test lets it go for good.
        let _ = self.0.lock().expect("nothing panics").recv();
    }
}

// limit: store.embedded.batch_max counts: commits
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_changes_go_into_one_commit() {
    for (batch_max, commits) in [(6, 1), (5, 2), (1, 6)] {
        let folder = Folder::new();
        let settings = EmbeddedSettings { batch_max, ..EmbeddedSettings::new(folder.path().join("store")) };
        let settings = StoreSettings { kind: StoreKind::Embedded(settings), ..StoreSettings::default() };
        let store = Store::open(&settings, clock()).expect("it opens");
        let (release, released) = channel();
        let hold: Arc<dyn Listener> = Arc::new(Hold(Mutex::new(released)));
        store.listen(Arc::downgrade(&hold));
        let keys: Vec<KeyHash> = (0..7).map(|number| KeyHash::of(&number.to_string())).collect();
        let session = Session::default();
        let mut writes: Vec<_> =
            keys.iter().map(|key| Box::pin(store.create_session(key, &session, Life::Forever))).collect();
        let mut first = writes.remove(0);
        // It is written, and its news hold the thread.
        assert!(is_pending(&mut first).await);
        while store.commits() == 0 {
            tokio::task::yield_now().await;
        }
        for write in &mut writes {
            assert!(is_pending(write).await);
        }
        drop(release);

        for write in writes.into_iter().chain([first]) {
            assert_eq!(write.await, Ok(true));
        }
        assert_eq!(store.commits(), 1 + commits, "{batch_max}");
    }
}

fn away(store: &Store) -> u64 {
    store.numbers().away.load(Ordering::Relaxed)
}

// limit: store.embedded.queue_max counts: away
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_calls_wait_for_the_file() {
    let folder = Folder::new();
    let settings = EmbeddedSettings::new(folder.path().join("store"));
    let patient = Duration::from_secs(60);
    let (store, release) = busy(EmbeddedSettings { queue_max: 2, deadline: patient, ..settings });
    let key = KeyHash::of("a");
    let (mut first, mut second) = (Box::pin(store.session(&key)), Box::pin(store.session(&key)));
    for call in [&mut first, &mut second] {
        assert!(is_pending(call).await);
    }
    assert_eq!(away(&store), 0);

    assert_eq!(store.session(&key).await, Err(StoreError::Busy));

    assert_eq!(away(&store), 1);
    drop(release);
    assert_eq!((first.await, second.await), (Ok(None), Ok(None)));
    assert_eq!(away(&store), 1);
}

// limit: store.embedded.deadline_ms counts: away
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_the_file_has_so_much_time() {
    for (deadline, is_answered) in [(Duration::from_secs(60), true), (Duration::from_millis(20), false)] {
        let folder = Folder::new();
        let settings = EmbeddedSettings::new(folder.path().join("store"));
        let (store, release) = busy(EmbeddedSettings { deadline, ..settings });
        let key = KeyHash::of("a");
        let mut call = Box::pin(store.session(&key));
        if is_answered {
            assert!(is_pending(&mut call).await);
            drop(release);
            assert_eq!((call.await, away(&store)), (Ok(None), 0));
        } else {
            assert_eq!((call.await, away(&store)), (Err(StoreError::Deadline(deadline)), 1));
        }
    }
}
