//! What every request may cause fills no log: a line when it begins, one in a while, and one when it is over.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::gateway::{AccessLog, Log, LogFormat};
use stile::model::session::{Rate, Session};
use stile_tests::{Gateway, RawUpstream, Redis, Upstream, api, log_of, plugin};

use super::{call, keep, keyed, quota};

#[test]
fn a_flood_of_warnings_is_told_in_a_line_with_its_number() {
    let log = log_of("stores::floods::child");

    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|of| of.starts_with(message))).collect()
    };
    let numbers = |message: &str, field: &str| -> Vec<u64> {
        of(message).iter().map(|line| line[field].as_u64().unwrap_or_else(|| panic!("{line}"))).collect()
    };
    let message = "sessions of plugins leave before their time";
    assert_eq!(numbers(message, "sessions"), [1, CALLERS - 1], "{log}");
    assert!(of(message).iter().all(|line| line["api"] == "orders" && line["sessions_max"] == 1), "{log}");
    assert_eq!(numbers("requests are refused: the store gives no answer", "requests"), [1], "{log}");
    let refused = of("refused in all").first().and_then(|line| line["refused"].as_u64()).unwrap_or_default();
    assert!(refused >= CALLERS, "{log}");
    assert_eq!(numbers("the store answers again", "untold"), [refused - 1], "{log}");
    // Each API and each kind by itself: none silences another.
    for (api, reason) in [("gone", "upstream: "), ("orders", "session is not valid: "), ("other", "policies: ")] {
        let failed = of("requests failed").into_iter().filter(|line| line["api"] == api);
        let failed: Vec<u64> = failed
            .inspect(|line| assert!(line["reason"].as_str().is_some_and(|of| of.starts_with(reason)), "{line}"))
            .map(|line| line["requests"].as_u64().unwrap_or_else(|| panic!("{line}")))
            .collect();
        assert_eq!(failed, [1, CALLERS], "{api}: {log}");
    }
    assert_eq!(numbers("answers broke off", "answers"), [1, CALLERS], "{log}");
}

/// A process of its own, because its log and what was told are the process's.
#[tokio::test]
#[ignore = "a test above runs it"]
async fn child() {
    let log = Log { format: LogFormat::Json, filter: "info".to_owned(), access: AccessLog::Off };
    stile::telemetry::log::init(&log).expect("the filter is good");
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_800_000_000_000));

    let auth = json!({ "plugin": "session", "config": { "alias": "made" }, "sessions_max": 1 });
    let flooded = api("orders").upstream(&upstream).auth(plugin("session")).set("/auth", auth);
    let gateway = Gateway::with(flooded).embedded().clock(&clock).start().await;
    // The first finds an empty place.
    for number in 0..=CALLERS {
        if number == CALLERS {
            clock.advance(A_WHILE);
        }
        assert_eq!(call(&gateway, &format!("caller-{number}")).await.status(), 200);
    }
    drop(gateway);

    let mut redis = Redis::durable();
    let builder = Gateway::with(keyed(&upstream)).redis(&redis).set("/store/away", "deny").clock(&clock);
    let gateway = builder.start().await;
    keep(&gateway, "ana-token", Session { quota: quota(1_000_000), ..Session::default() }).await;
    assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    redis.kill();
    let mut refused = 0_u64;
    while refused < CALLERS {
        refused += u64::from(call(&gateway, "ana-token").await.status() == 503);
    }
    assert!(redis.run());
    while call(&gateway, "ana-token").await.status() != 200 {
        refused += 1;
    }
    clock.advance(A_WHILE);
    assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    drop(gateway);
    failing(&clock).await;
    let line = format!("{}\n", json!({ "message": "refused in all", "refused": refused }));
    std::io::stderr().write_all(line.as_bytes()).expect("the parent listens");
}

/// One API whose session cannot be used, one whose session has policies of another organisation, one whose upstream is gone,
/// and one whose upstream breaks its answers off.
async fn failing(clock: &Clock) {
    let (upstream, cut) = (Upstream::start(), RawUpstream::start().await);
    let other = keyed(&upstream).set("/id", "other").path("/other");
    let (gone, half) = (api("gone").upstream_url("http://127.0.0.1:1"), api("half").upstream_url(&cut.url()));
    let builder = Gateway::with(keyed(&upstream)).and(other).and(gone).and(half).clock(clock);
    let policy = json!({ "id": "foreign", "organisation": "elsewhere" });
    let gateway = builder.set("/policies", json!([policy])).start().await;
    let rate = Rate { requests: 1.0, per_seconds: -1.0, ..Rate::default() };
    keep(&gateway, "bad-token", Session { rate, ..Session::default() }).await;
    keep(&gateway, "foreign-token", Session { policies: vec!["foreign".to_owned()], ..Session::default() }).await;

    for (path, token, status) in
        [("/orders/", "bad-token", 403), ("/other/", "foreign-token", 403), ("/gone/", "", 502)]
    {
        for number in 0..=CALLERS {
            if number == CALLERS {
                clock.advance(A_WHILE);
            }
            let reply = gateway.get(path).header("authorization", token).send().await;
            assert_eq!(reply.status(), status, "{path}");
        }
    }
    for number in 0..=CALLERS {
        if number == CALLERS {
            clock.advance(A_WHILE);
        }
        let caller = tokio::spawn(gateway.get("/half/").try_send());
        let mut sent = cut.accept().await;
        sent.head().await;
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        drop(sent);
        assert!(caller.await.expect("it does not panic").is_err(), "half of an answer");
    }
}

const CALLERS: u64 = 50;
const A_WHILE: Duration = Duration::from_secs(5);
