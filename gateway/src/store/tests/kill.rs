//! SIGKILL at any moment: a child keeps sessions and takes quota, and says so; what it said must be true afterwards.
//!
//! The child is this test binary, started again for the test `child` alone.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::bench::Folder;
use super::limits::quota;
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::model::store::{EmbeddedSettings, StoreKind, StoreSettings};
use crate::store::{Life, Owner, Store, Take, Verdict};

const FILE: &str = "STILE_TEST_STORE_FILE";
const QUOTAS: [u64; 3] = [7, 400, 100_000];
const BLOCK: u64 = 50;
const KILLS: u64 = 100;

fn open(path: &Path) -> Store {
    let settings = EmbeddedSettings { quota_block: BLOCK, ..EmbeddedSettings::new(path.to_owned()) };
    let settings = StoreSettings { kind: StoreKind::Embedded(settings), ..StoreSettings::default() };
    Store::open(&settings, Clock::system()).expect("it opens after every kill")
}

fn take(max: u64) -> Take {
    let owner = Owner::session(&KeyHash::of(&max.to_string()), None);
    Take { rates: [].into_iter().collect(), quota: Some(quota(&owner, max, 86_400)), ..Take::default() }
}

/// Not a test by itself: it works until it is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let store = open(Path::new(&file));
    let say = |what: String| {
        // One write each, so that a line is there as a whole or not at all.
        std::io::stderr().write_all(what.as_bytes()).expect("the parent listens");
    };
    say("begin\n".to_owned());
    let quotas = QUOTAS.map(|max| {
        let store = &store;
        async move {
            loop {
                match store.take(&take(max)).await {
                    Ok(Verdict::Allowed(_)) => say(format!("took {max}\n")),
                    Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let sessions = (0..4).map(|task| {
        let store = &store;
        async move {
            for number in 0.. {
                let name = format!("{}-{task}-{number}", std::process::id());
                let session = Session { alias: name.clone(), ..Session::default() };
                if store.create_session(&KeyHash::of(&name), &session, Life::Forever).await == Ok(true) {
                    say(format!("kept {name}\n"));
                }
                if number % 3 > 0 {
                    continue;
                }
                say(format!("going {name}\n"));
                if store.delete_session(&KeyHash::of(&name)).await == Ok(true) {
                    say(format!("gone {name}\n"));
                }
            }
        }
    });
    tokio::join!(futures_util::future::join_all(quotas), futures_util::future::join_all(sessions));
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_kill() {
    let folder = Folder::new();
    let file = folder.path().join("store");
    let mut took: HashMap<u64, u64> = HashMap::new();
    // Nothing is known of one whose deletion was begun and not acknowledged.
    let mut sessions: HashMap<String, Option<bool>> = HashMap::new();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .args(["store::tests::kill::child", "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(FILE, &file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts again");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let begun = lines.next().expect("it says something").expect("it is text");
        assert_eq!(begun, "begin", "it opens after kill {kill}");
        let killer = std::thread::spawn(move || {
            // At another moment each time.
            std::thread::sleep(Duration::from_micros(500 + kill.wrapping_mul(7_919) % 40_000));
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        });
        for line in lines.map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("took", max)) => *took.entry(max.parse().expect("a number")).or_default() += 1,
                Some(("kept", name)) => drop(sessions.insert(name.to_owned(), Some(true))),
                Some(("going", name)) => drop(sessions.insert(name.to_owned(), None)),
                Some(("gone", name)) => drop(sessions.insert(name.to_owned(), Some(false))),
                _ => panic!("the child says: {line}"),
            }
        }
        killer.join().expect("it does not panic");
    }

    let store = open(&file);
    for (name, is_kept) in &sessions {
        let found = store.session(&KeyHash::of(name)).await.expect("it is there");
        assert!(is_kept.is_none_or(|is_kept| found.is_some() == is_kept), "{name}: {is_kept:?}");
    }
    assert!(sessions.len() > 100, "{}", sessions.len());
    for max in QUOTAS {
        let told = took.get(&max).copied().unwrap_or(0);
        assert!(told <= max, "{told} of {max} passed");
        let quota = take(max).quota.expect("given");
        let state = store.quota(&quota.owner, &quota.limit).await.expect("it is there");
        let counted = max - state.remaining;
        let block = BLOCK.min(max / 20).max(1);
        // One use of each run may have been counted, but not told.
        assert!((told..=told + KILLS * (block + 1)).contains(&counted), "{told} of {max} told, {counted} counted");
    }
    // A kill costs a block at most; an end costs nothing.
    let before = remaining(&store).await;
    drop(store);
    let store = open(&file);
    assert_eq!(remaining(&store).await, before);
    assert!(matches!(store.take(&take(100_000)).await, Ok(Verdict::Allowed(_))));
    drop(store);
    assert_eq!(remaining(&open(&file)).await, before - 1);
}

async fn remaining(store: &Store) -> u64 {
    let quota = take(100_000).quota.expect("given");
    store.quota(&quota.owner, &quota.limit).await.expect("it is there").remaining
}
