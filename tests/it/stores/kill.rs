//! A gateway with an embedded store is killed at any moment under load, again and again: what was acknowledged is there
//! afterwards, and no quota was exceeded.
//!
//! The gateway is this test binary, started again for the test `child` alone.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use stile::clock::Clock;
use stile::model::id::ApiId;
use stile::model::key::KeyHash;
use stile::model::limit::QuotaLimit;
use stile::model::session::Session;
use stile::model::store::{EmbeddedSettings, StoreKind, StoreSettings};
use stile::store::{Life, Owner, Store};
use stile_tests::{Folder, Gateway, Upstream, api};

use super::{LONG, extracted, quota};

const FILE: &str = "STILE_TEST_STORE_FILE";
const UPSTREAM: &str = "STILE_TEST_UPSTREAM";
const KILLS: &str = "STILE_KILLS";
const QUOTAS: [i64; 3] = [7, 400, 100_000];
const BLOCK: u64 = 50;
const LINES: u64 = 6;

/// Not a test by itself: a gateway that serves until it is killed, and keeps keys meanwhile.
#[tokio::test]
#[ignore = "started by another test"]
async fn child() {
    let (Ok(file), Ok(upstream)) = (std::env::var(FILE), std::env::var(UPSTREAM)) else { return };
    // One write each, so that a line is there as a whole or not at all.
    let say = |what: String| std::io::stderr().write_all(what.as_bytes()).expect("the parent listens");
    let ids = extracted("ids", &upstream, json!({ "id_extractor_deadline": LONG }));
    let gateway = Gateway::with(api("orders").upstream_url(&upstream).set("/auth", json!({})))
        .and(ids)
        .set("/store", json!({ "kind": "embedded", "embedded": { "path": file, "quota_block": BLOCK } }))
        .start()
        .await;
    for max in QUOTAS {
        let session = Session { quota: quota(max), ..Session::default() };
        let created = gateway.store().create_session(&KeyHash::of(&token(max)), &session, Life::Forever).await;
        created.expect("the file is there");
    }
    say(format!("at {}\n", gateway.address));
    for number in 0.. {
        let name = format!("{}-{number}", std::process::id());
        let session = Session { alias: name.clone(), ..Session::default() };
        if gateway.store().create_session(&KeyHash::of(&name), &session, Life::Forever).await == Ok(true) {
            say(format!("kept {name}\n"));
        }
    }
}

#[tokio::test]
async fn what_a_gateway_acknowledged_survives_its_kill() {
    let kills: u64 = std::env::var(KILLS).map_or(20, |kills| kills.parse().expect("a number"));
    let (folder, upstream) = (Folder::new(), Upstream::start());
    let file = folder.path().join("store.redb");
    let (mut kept, mut ids) = (HashSet::new(), HashSet::new());
    for kill in 0..kills {
        let (mut child, address, lines) = start(&file, &upstream.url());
        let killer = std::thread::spawn(move || {
            // At another moment each time.
            std::thread::sleep(Duration::from_micros(2_000 + kill.wrapping_mul(7_919) % 150_000));
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        });
        let answered = join_all((0..LINES).map(|line| load(address, format!("{kill}-{line}")))).await;
        ids.extend(answered.into_iter().flatten());
        killer.join().expect("it does not panic");
        kept.extend(lines);
    }

    // What the upstream saw is what was let through.
    let mut passed: HashMap<String, u64> = HashMap::new();
    for seen in upstream.seen() {
        *passed.entry(seen.header("authorization").expect("it was sent").to_owned()).or_default() += 1;
    }
    let store = open(&file);
    for name in &kept {
        assert!(store.session(&KeyHash::of(name)).await.expect("it is read").is_some(), "{name} is lost");
    }
    let api = ApiId::parse("ids").expect("it is a name");
    for id in &ids {
        let key = KeyHash::of_extracted("", &api, id.as_bytes());
        assert!(store.session(&key).await.expect("it is read").is_some(), "{id} is lost");
    }
    assert!(kept.len() > 20 && ids.len() > 20, "{} keys, {} IDs", kept.len(), ids.len());
    for max in QUOTAS {
        let passed = passed.get(&token(max)).copied().unwrap_or(0);
        let limit = QuotaLimit::of(&quota(max)).expect("there is one");
        let owner = Owner::session(&KeyHash::of(&token(max)), None);
        let state = store.quota(&owner, &limit).await.expect("it is read");
        let counted = limit.max() - state.remaining;
        assert!(passed <= limit.max(), "{passed} of {max} passed");
        // Besides, each line may have had a request counted that did not reach the upstream.
        let block = BLOCK.min(limit.max() / 20).max(1);
        let counted_max = passed + kills * (block + LINES);
        assert!((passed..=counted_max).contains(&counted), "{passed} of {max} passed, {counted} counted");
    }
}

/// A gateway of its own process: where it listens, and the keys that it says it kept until it ends.
fn start(file: &Path, upstream: &str) -> (Child, SocketAddr, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args(["stores::kill::child", "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(FILE, file)
        .env(UPSTREAM, upstream)
        // What it leaves behind goes with the store.
        .env("TMPDIR", file.parent().expect("it is in a folder"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts again");
    let (say, said) = mpsc::channel();
    let output: ChildStderr = child.stderr.take().expect("it is piped");
    // It must not wait for a full pipe.
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
    });
    let first = said.recv().expect("it says something");
    let address = first.strip_prefix("at ").unwrap_or_else(|| panic!("the child says: {first}"));
    let kept = move || said.recv().ok();
    let kept = std::iter::from_fn(kept).filter_map(|line| line.strip_prefix("kept ").map(str::to_owned));
    (child, address.parse().expect("an address"), kept)
}

/// Sends requests until the gateway is gone; the IDs of those that were answered.
async fn load(address: SocketAddr, line: String) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0.. {
        let id = format!("{line}-{number}");
        let request = match QUOTAS.get(number % (QUOTAS.len() + 1)) {
            Some(max) => ("/orders/1", token(*max)),
            None => ("/ids/1", id.clone()),
        };
        match ask(address, request.0, &request.1).await {
            Some(200) if request.1 == id => answered.push(id),
            Some(200 | 403) => {}
            Some(status) => panic!("{status} for {}", request.1),
            None => break,
        }
    }
    answered
}

/// The status, as long as there is somebody who answers.
async fn ask(address: SocketAddr, path: &str, credential: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: {credential}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A kill may cut the answer after its status.
    let _ = stream.read_to_end(&mut answer).await;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

fn open(file: &Path) -> Store {
    let kind = StoreKind::Embedded(EmbeddedSettings { quota_block: BLOCK, ..EmbeddedSettings::new(file.to_owned()) });
    let settings = StoreSettings { kind, ..StoreSettings::default() };
    Store::open(&settings, Clock::system()).expect("it opens after every kill")
}

fn token(max: i64) -> String {
    format!("token of {max}")
}
