//! Redis is killed under load and comes back: callers that are known are served as `store.away` says, and nothing that was
//! acknowledged is lost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::json;
use stile::model::key::KeyHash;
use stile::model::limit::QuotaLimit;
use stile::model::policy::{Policy, PolicyId};
use stile::model::session::{AccessRight, Session};
use stile::store::{Life, Owner};
use stile_tests::{Gateway, Redis, Reply, Upstream};

use super::{LONG, call, extracted, hears, keep, keyed, quota, rate};

/// Two gateways on one server, with callers that both know: two tokens, one with a policy, and an ID.
struct Two {
    gateways: [Gateway; 2],
    _upstream: Upstream,
}

impl Two {
    async fn start(redis: &Redis, away: &str) -> Self {
        let upstream = Upstream::start();
        let start = async || {
            let ids = extracted(
                "ids",
                &upstream.url(),
                json!({ "id_extractor_deadline": LONG, "rate": 1e9, "per_seconds": 1 }),
            );
            let builder = Gateway::with(keyed(&upstream)).and(ids).redis(redis).set("/store/away", away);
            builder.start().await
        };
        let gateways = [start().await, start().await];
        let right = |id: &str| AccessRight { api_id: id.to_owned(), ..AccessRight::default() };
        let policy = PolicyId::parse("gold").expect("an id");
        let policy = Policy { access_rights: vec![right("orders")], rate: rate(1_000_000), ..Policy::new(policy) };
        gateways[0].store().put_policy(&policy).await.expect("the server is there");
        keep(&gateways[0], "ana-token", Session { quota: quota(MANY), ..Session::default() }).await;
        keep(&gateways[0], "few-token", Session { quota: quota(FEW), ..Session::default() }).await;
        keep(&gateways[0], "gold-token", Session { policies: vec!["gold".to_owned()], ..Session::default() }).await;
        let two = Self { gateways, _upstream: upstream };
        for gateway in &two.gateways {
            hears(gateway).await;
            for caller in CALLERS {
                assert_eq!(two.ask(gateway, caller).await.status(), 200, "{caller}");
            }
        }
        two
    }

    async fn ask(&self, gateway: &Gateway, caller: &str) -> Reply {
        let path = if caller == "an ID" { "/ids/1" } else { "/orders/1" };
        gateway.get(path).header("authorization", caller).send().await
    }

    /// Sends requests to both from several callers at once, and keeps keys, until the server has been away and back.
    async fn while_away(&self, mut redis: Redis) -> (Load, Redis) {
        let load = Load::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let is_back = is_over.clone();
        let outage = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            redis.kill();
            std::thread::sleep(Duration::from_millis(250));
            assert!(redis.run());
            std::thread::sleep(Duration::from_millis(50));
            is_back.store(true, Ordering::Release);
            redis
        });
        let tasks = self.gateways.iter().cycle().take(TASKS).enumerate().map(async |(task, gateway)| {
            let mut rounds = 0..;
            while let Some(round) = rounds.next().filter(|_| !is_over.load(Ordering::Acquire)) {
                let caller = CALLERS[(task + round) % CALLERS.len()];
                load.note(caller, &self.ask(gateway, caller).await);
                let key = KeyHash::of(&format!("kept {task} {round}"));
                if gateway.store().create_session(&key, &Session::default(), Life::Forever).await == Ok(true) {
                    load.kept.borrow_mut().push(key);
                } else {
                    load.unkept.set(load.unkept.get() + 1);
                }
            }
        });
        join_all(tasks).await;
        (load, outage.join().expect("the server comes back"))
    }

    /// Waits until both ask the server again, and checks that nothing is lost.
    async fn are_back(&self, load: &Load) {
        let kept = load.kept.borrow().clone();
        for gateway in &self.gateways {
            let begun = Instant::now();
            while gateway.store().session(&KeyHash::of("ana-token")).await.is_err() {
                assert!(begun.elapsed() < Duration::from_secs(10), "it does not find the server again");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for key in &kept {
                assert!(gateway.store().session(key).await.expect("it is back").is_some(), "acknowledged and lost");
            }
            for caller in CALLERS {
                assert!([200, 403].contains(&self.ask(gateway, caller).await.status()), "{caller}");
            }
        }
        assert!(!kept.is_empty() && load.unkept.get() > 0, "it was there, and it was away");
    }

    async fn used(&self, token: &str, max: i64) -> u64 {
        let limit = QuotaLimit::of(&quota(max)).expect("there is one");
        let owner = Owner::session(&KeyHash::of(token), None);
        let state = self.gateways[0].store().quota(&owner, &limit).await.expect("the server is there");
        limit.max() - state.remaining
    }

    fn counted_locally(&self) -> u64 {
        self.gateways.iter().map(|gateway| gateway.store().numbers().local.load(Ordering::Relaxed)).sum()
    }
}

/// What was answered and acknowledged meanwhile.
#[derive(Default)]
struct Load {
    statuses: RefCell<BTreeMap<(String, u16), u64>>,
    kept: RefCell<Vec<KeyHash>>,
    unkept: Cell<u64>,
}

impl Load {
    fn note(&self, caller: &str, reply: &Reply) {
        let is_told_when = reply.header("retry-after").is_some();
        assert_eq!(is_told_when, reply.status() == 503, "{caller}: {reply:?}");
        *self.statuses.borrow_mut().entry((caller.to_owned(), reply.status())).or_default() += 1;
    }

    /// Some passed, and nobody was told anything but this.
    fn check<const N: usize>(&self, others: [u16; N]) {
        let statuses = self.statuses.borrow();
        assert!(CALLERS.iter().all(|caller| self.passed(caller) > 0), "{statuses:?}");
        assert!(statuses.keys().all(|(_, status)| *status == 200 || others.contains(status)), "{statuses:?}");
    }

    fn passed(&self, caller: &str) -> u64 {
        self.statuses.borrow().get(&(caller.to_owned(), 200)).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn local_goes_on_counting_by_itself() {
    let redis = Redis::durable();
    let two = Two::start(&redis, "local").await;

    let (load, _redis) = two.while_away(redis).await;

    load.check([403]);
    two.are_back(&load).await;
    let locally = two.counted_locally();
    assert!(locally > 0);
    // Two of each before, and two after.
    let (passed, used) = (load.passed("ana-token") + 4, two.used("ana-token", MANY).await);
    assert!(used <= passed + TASKS_U64, "{used} of {passed} were counted");
    assert!(used + locally >= passed, "{used} and {locally} here of {passed} were counted");
    // What was left when the server went may be given out by either gateway, and by the server once more.
    let passed = load.passed("few-token") + 2;
    assert!(passed <= 3 * FEW_U64, "{passed} passed");
}

#[tokio::test]
async fn allow_goes_on_without_counting() {
    let redis = Redis::durable();
    let two = Two::start(&redis, "allow").await;

    let (load, _redis) = two.while_away(redis).await;

    load.check([403]);
    two.are_back(&load).await;
    assert_eq!(two.counted_locally(), 0);
    let (passed, used) = (load.passed("ana-token") + 4, two.used("ana-token", MANY).await);
    assert!(used <= passed + TASKS_U64, "{used} of {passed} were counted");
}

#[tokio::test]
async fn deny_refuses_until_the_server_is_back() {
    let redis = Redis::durable();
    let two = Two::start(&redis, "deny").await;

    let (load, _redis) = two.while_away(redis).await;

    load.check([403, 503]);
    assert!(load.statuses.borrow().keys().any(|(_, status)| *status == 503));
    two.are_back(&load).await;
    let (passed, used) = (load.passed("ana-token") + 4, two.used("ana-token", MANY).await);
    assert!((passed..=passed + TASKS_U64).contains(&used), "{used} of {passed} were counted");
    let passed = load.passed("few-token") + 2;
    assert!(passed <= FEW_U64, "{passed} passed");
}

/// What a gateway knew when the server went still holds: quota goes on from there, a rate begins anew.
#[tokio::test]
async fn limits_hold_here_while_the_server_is_away() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let gateway = Gateway::with(keyed(&upstream)).redis(&redis).start().await;
    keep(&gateway, "quota-token", Session { quota: quota(5), ..Session::default() }).await;
    keep(&gateway, "rate-token", Session { rate: rate(3), ..Session::default() }).await;
    hears(&gateway).await;
    for token in ["quota-token", "quota-token", "quota-token", "rate-token"] {
        assert_eq!(call(&gateway, token).await.status(), 200);
    }
    redis.kill();
    let of = async |token: &str| {
        let statuses = join_all((0..10).map(|_| call(&gateway, token))).await;
        statuses.iter().filter(|reply| reply.status() == 200).count()
    };
    assert_eq!(join(of("quota-token"), of("rate-token")).await, (2, 3));
    assert_eq!(call(&gateway, "quota-token").await.status(), 403);
    assert_eq!(call(&gateway, "rate-token").await.status(), 429);
    // One of whom nothing is known cannot be told from a stranger with a good key.
    let unknown = call(&gateway, "another token").await;
    assert_eq!((unknown.status(), unknown.header("retry-after")), (503, Some("1")));
}

const CALLERS: [&str; 4] = ["ana-token", "few-token", "gold-token", "an ID"];
const TASKS: usize = 8;
const TASKS_U64: u64 = 8;
const MANY: i64 = 1_000_000;
const FEW: i64 = 20;
const FEW_U64: u64 = 20;
