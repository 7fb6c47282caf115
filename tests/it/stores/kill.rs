//! A gateway is killed at any moment under load, again and again: what was acknowledged is there afterwards, and no quota was
//! exceeded. On a file and on Redis.
//!
//! The gateway is this test binary, started again for the test `child` alone.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::id::ApiId;
use stile::model::key::KeyHash;
use stile::model::limit::QuotaLimit;
use stile::model::policy::{Policy, PolicyId};
use stile::model::session::{AccessRight, Session};
use stile::model::store::{EmbeddedSettings, RedisSettings, StoreKind, StoreSettings};
use stile::store::{Life, Owner, Store};
use stile_tests::{Folder, Gateway, Redis, Upstream, api};

use super::{LONG, extracted, quota};

const STORE: &str = "STILE_TEST_STORE";
const UPSTREAM: &str = "STILE_TEST_UPSTREAM";
const KILLS: &str = "STILE_KILLS";
/// One of them comes from a policy.
const QUOTAS: [i64; 4] = [7, OF_POLICY, 400, 100_000];
const OF_POLICY: i64 = 300;
const BLOCK: u64 = 50;
const LINES: u64 = 6;
const MANAGERS: u64 = 2;

/// What the gateways keep everything in, one after the other.
enum Kept {
    File(Folder),
    Server(Redis),
}

/// Not a test by itself: a gateway that serves until it is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn child() {
    let (Ok(store), Ok(upstream)) = (std::env::var(STORE), std::env::var(UPSTREAM)) else { return };
    let store: Value = serde_json::from_str(&store).expect("the parent wrote it");
    let ids = extracted("ids", &upstream, json!({ "id_extractor_deadline": LONG }));
    let orders = api("orders").upstream_url(&upstream).set("/auth", json!({}));
    let gateway = Gateway::with(orders).and(ids).set("/store", store).start().await;
    let right = AccessRight { api_id: "orders".to_owned(), ..AccessRight::default() };
    let id = PolicyId::parse("limited").expect("an id");
    let policy = Policy { quota: quota(OF_POLICY), access_rights: vec![right], ..Policy::new(id) };
    gateway.store().put_policy(&policy).await.expect("the store is there");
    for max in QUOTAS {
        let session = match max {
            OF_POLICY => Session { policies: vec!["limited".to_owned()], ..Session::default() },
            _ => Session { quota: quota(max), ..Session::default() },
        };
        let created = gateway.store().create_session(&KeyHash::of(&token(max)), &session, Life::Forever).await;
        created.expect("the store is there");
    }
    let at = format!("at {} {}\n", gateway.address, gateway.control_address());
    std::io::stderr().write_all(at.as_bytes()).expect("the parent listens");
    std::future::pending().await
}

#[tokio::test]
async fn what_a_gateway_on_a_file_acknowledged_survives_its_kill() {
    survives(&Kept::File(Folder::new())).await;
}

#[tokio::test]
async fn what_a_gateway_on_redis_acknowledged_survives_its_kill() {
    survives(&Kept::Server(Redis::start())).await;
}

async fn survives(kept: &Kept) {
    let kills: u64 = std::env::var(KILLS).map_or(10, |kills| kills.parse().expect("a number"));
    let (folder, upstream) = (Folder::new(), Upstream::start());
    let (mut known, mut ids) = (Known::default(), Vec::new());
    for kill in 0..kills {
        let (mut child, [address, control]) = start(kept, &folder, &upstream.url());
        let killer = std::thread::spawn(move || {
            // At another moment each time.
            std::thread::sleep(Duration::from_micros(2_000 + RandomState::new().hash_one(kill) % 400_000));
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        });
        let answered = join_all((0..LINES).map(|line| load(address, format!("{kill}-{line}"))));
        let managed = join_all((0..MANAGERS).map(|manager| manage(control, kill, manager)));
        let (answered, managed) = join(answered, managed).await;
        ids.extend(answered.into_iter().flatten());
        managed.into_iter().for_each(|more| known.add(more));
        killer.join().expect("it does not panic");
    }

    // What the upstream saw is what was let through.
    let mut passed: HashMap<String, u64> = HashMap::new();
    for seen in upstream.seen() {
        *passed.entry(seen.header("authorization").expect("it was sent").to_owned()).or_default() += 1;
    }
    let store = kept.open();
    known.check(&store).await;
    let api = ApiId::parse("ids").expect("it is a name");
    let plugin = stile::model::id::PluginName::parse("session").expect("it is a name");
    for id in &ids {
        let key = KeyHash::of_extracted("", &api, &plugin, id.as_bytes());
        assert!(store.session(&key).await.expect("it is read").is_some(), "{id} is lost");
    }
    assert!(!ids.is_empty(), "no plugin was asked");
    let mut figures =
        format!("{kept}: {kills} kills, {known}, {} identities kept; quotas (passed, counted):", ids.len());
    for max in QUOTAS {
        let passed = passed.get(&token(max)).copied().unwrap_or(0);
        let limit = QuotaLimit::of(&quota(max)).expect("there is one");
        let owner = Owner::session(&KeyHash::of(&token(max)), None);
        let state = store.quota(&owner, &limit).await.expect("it is read");
        let counted = limit.max() - state.remaining;
        assert!(passed <= limit.max(), "{passed} of {max} passed");
        // Besides, each line may have had a request counted that did not reach the upstream.
        let counted_max = passed + kills * (kept.block(&limit) + LINES);
        assert!((passed..=counted_max).contains(&counted), "{passed} of {max} passed, {counted} counted");
        figures += &format!(" {max} ({passed}, {counted})");
    }
    // `just kill` shows it.
    std::io::stderr().write_all(format!("{figures}\n").as_bytes()).expect("there is a terminal, or nobody");
}

impl Kept {
    /// As the configuration says it.
    fn config(&self) -> Value {
        match self {
            Self::File(folder) => {
                let path = folder.path().join("store.redb");
                json!({ "kind": "embedded", "embedded": { "path": path, "quota_block": BLOCK } })
            }
            Self::Server(redis) => {
                let addresses = [format!("127.0.0.1:{}", redis.port())];
                json!({ "kind": "redis", "redis": { "addresses": addresses, "deadline_ms": 10_000 } })
            }
        }
    }

    fn open(&self) -> Store {
        let kind = match self {
            Self::File(folder) => {
                let path = folder.path().join("store.redb");
                StoreKind::Embedded(EmbeddedSettings { quota_block: BLOCK, ..EmbeddedSettings::new(path) })
            }
            Self::Server(redis) => StoreKind::Redis(RedisSettings {
                addresses: vec![("127.0.0.1".to_owned(), redis.port())],
                deadline: Duration::from_secs(10),
                ..RedisSettings::default()
            }),
        };
        let settings = StoreSettings { kind, ..StoreSettings::default() };
        Store::open(&settings, Clock::system()).expect("it opens after every kill")
    }

    /// How much a kill may count too much.
    fn block(&self, limit: &QuotaLimit) -> u64 {
        match self {
            Self::File(_) => BLOCK.min(limit.max() / 20).max(1),
            Self::Server(_) => 0,
        }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "on a file",
            Self::Server(_) => "on redis",
        })
    }
}

/// What the control port acknowledged.
#[derive(Default)]
struct Known {
    /// Whether it was kept or deleted; nothing is known of one whose deletion was begun and not acknowledged.
    keys: BTreeMap<String, Option<bool>>,
    policies: Vec<String>,
    /// The highest revision of one policy that is put again and again.
    revision: i64,
}

impl Known {
    fn add(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.policies.extend(more.policies);
        self.revision = self.revision.max(more.revision);
    }

    async fn check(&self, store: &Store) {
        for (name, is_kept) in &self.keys {
            let found = store.session(&KeyHash::of(name)).await.expect("it is read");
            assert!(is_kept.is_none_or(|is_kept| found.is_some() == is_kept), "{name}: {is_kept:?}");
        }
        let policy = async |id: &str| {
            let found = store.policy(&PolicyId::parse(id).expect("an id")).await.expect("it is read");
            found.unwrap_or_else(|| panic!("policy {id} is lost"))
        };
        for name in &self.policies {
            assert_eq!(policy(name).await.name, *name);
        }
        assert!(self.keys.len() > 5 && self.policies.len() > 5, "{self}");
        // One more may have been put and not been acknowledged.
        let found = policy("moving").await.quota.max;
        assert!(found >= self.revision, "revision {found}, but {} was acknowledged", self.revision);
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys and {} policies acknowledged", self.keys.len(), self.policies.len())
    }
}

/// A gateway of its own process: where it listens, for callers and for operators.
fn start(kept: &Kept, folder: &Folder, upstream: &str) -> (Child, [SocketAddr; 2]) {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args(["stores::kill::child", "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(STORE, kept.config().to_string())
        .env(UPSTREAM, upstream)
        // What it leaves behind goes with the test.
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts again");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let first = lines.next().expect("it says something");
    // It must not wait for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let addresses = first.strip_prefix("at ").and_then(|both| both.split_once(' '));
    let (data, control) = addresses.unwrap_or_else(|| panic!("the child says: {first}"));
    (child, [data, control].map(|address| address.parse().expect("an address")))
}

/// Sends requests until the gateway is gone; the IDs of those that were answered.
async fn load(address: SocketAddr, line: String) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0.. {
        let id = format!("{line}-{number}");
        let (path, credential) = match QUOTAS.get(number % (QUOTAS.len() + 1)) {
            Some(max) => ("/orders/1", token(*max)),
            None => ("/ids/1", id.clone()),
        };
        match ask(address, &format!("GET {path} HTTP/1.1\r\nauthorization: {credential}"), "").await {
            Some(200) if credential == id => answered.push(id),
            Some(200 | 403) => {}
            Some(status) => panic!("{status} for {credential}"),
            None => break,
        }
    }
    answered
}

/// Makes and deletes keys, and puts policies, until the gateway is gone; what was acknowledged.
async fn manage(address: SocketAddr, kill: u64, manager: u64) -> Known {
    let mut known = Known::default();
    let rights = json!({ "orders": { "api_id": "orders" } });
    let send = async |method: &str, path: &str, body: Value| {
        let head = format!("{method} /tyk/{path} HTTP/1.1\r\nx-tyk-authorization: secret-of-tests");
        let status = ask(address, &head, &body.to_string()).await;
        assert!(matches!(status, Some(200) | None), "{status:?} for {path}");
        status
    };
    for number in 0_i64.. {
        let name = format!("key-{kill}-{manager}-{number}");
        let Some(_) = send("POST", &format!("keys/{name}"), json!({ "access_rights": rights })).await else { break };
        known.keys.insert(name.clone(), Some(true));
        let policy = format!("policy-{kill}-{manager}-{number}");
        let body = json!({ "id": policy, "name": policy, "access_rights": rights });
        let Some(_) = send("POST", &format!("policies/{policy}"), body).await else { break };
        known.policies.push(policy);
        if manager == 0 {
            let revision = i64::try_from(kill).expect("there are few") * 1_000_000 + number;
            let body = json!({ "id": "moving", "quota_max": revision, "access_rights": rights });
            let Some(_) = send("PUT", "policies/moving", body).await else { break };
            known.revision = revision;
        }
        if number % 3 == 0 {
            known.keys.insert(name.clone(), None);
            let Some(_) = send("DELETE", &format!("keys/{name}"), json!({})).await else { break };
            known.keys.insert(name, Some(false));
        }
    }
    known
}

/// The status, as long as there is somebody who answers.
async fn ask(address: SocketAddr, head: &str, body: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("{head}\r\nhost: a\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A kill may cut the answer after its status.
    let _ = stream.read_to_end(&mut answer).await;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

fn token(max: i64) -> String {
    format!("token of {max}")
}
