//! What time does to sessions and quotas, with a clock that the test moves.

use std::time::Duration;

use serde_json::json;
use stile::clock::Clock;
use stile::model::session::{Quota, Rate, Session};
use stile_tests::{Gateway, Upstream};

use super::{call, extracted, keep, keyed};

const NOW_MS: u64 = 1_795_395_600_000;
const NOW: i64 = 1_795_395_600;

#[tokio::test]
async fn a_quota_renews_and_so_does_a_rate() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW_MS));
    let gateway = Gateway::with(keyed(&upstream)).embedded().clock(&clock).start().await;
    let quota = Quota { max: 2, renewal_rate: 3600, ..Quota::default() };
    let rate = Rate { requests: 2.0, per_seconds: 60.0, ..Rate::default() };
    keep(&gateway, "quota-token", Session { quota, ..Session::default() }).await;
    keep(&gateway, "rate-token", Session { rate, ..Session::default() }).await;
    let three = async |token: &str| {
        [
            call(&gateway, token).await.status(),
            call(&gateway, token).await.status(),
            call(&gateway, token).await.status(),
        ]
    };

    for _ in 0..3 {
        assert_eq!(three("quota-token").await, [200, 200, 403]);
        clock.advance(Duration::from_secs(3599));
        assert_eq!(call(&gateway, "quota-token").await.status(), 403);
        clock.advance(Duration::from_secs(1));
    }
    for _ in 0..3 {
        assert_eq!(three("rate-token").await, [200, 200, 429]);
        clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn a_session_expires_and_its_life_ends() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW_MS));
    let gateway = Gateway::with(keyed(&upstream)).embedded().clock(&clock).start().await;
    keep(&gateway, "ana-token", Session { expires: NOW + 60, ..Session::default() }).await;
    let key = stile::model::key::KeyHash::of("ben-token");
    let life = stile::store::Life::Millis(60_000);
    assert!(gateway.store().create_session(&key, &Session::default(), life).await.expect("it is there"));

    for after in [0, 59] {
        clock.advance(Duration::from_secs(after));
        for token in ["ana-token", "ben-token"] {
            assert_eq!(call(&gateway, token).await.status(), 200, "{token}");
        }
    }
    clock.advance(Duration::from_secs(1));
    let expired = call(&gateway, "ana-token").await;
    assert_eq!((expired.status(), &expired.json()["error"]), (401, &json!("Key has expired, please renew")));
    // Remembered for a while, as nobody is told when a life ends.
    clock.advance(Duration::from_secs(10));
    assert_eq!(call(&gateway, "ben-token").await.status(), 403);
}

#[tokio::test]
async fn the_plugin_is_asked_again_after_the_deadline_of_its_answer() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW_MS));
    let api = extracted("orders", &upstream.url(), json!({ "id_extractor_deadline": NOW + 60 }));
    let gateway = Gateway::with(api).embedded().clock(&clock).start().await;
    for (after, asked) in [(0, 1.0), (59, 1.0), (1, 2.0)] {
        clock.advance(Duration::from_secs(after));
        for _ in 0..3 {
            assert_eq!(call(&gateway, "ana").await.status(), 200);
            if after == 1 {
                break;
            }
        }
        gateway.metric_becomes("stile_plugin_calls_total", &[], asked).await;
    }
}
