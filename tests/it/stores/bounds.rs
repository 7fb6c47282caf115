//! How long what is remembered stands in for a store that is away.

use std::time::Duration;

use stile::clock::Clock;
use stile::model::session::Session;
use stile_tests::{Gateway, Redis, Upstream};

use super::{call, hears, keep, keyed};

// limit: store.cache.away_age_max_ms
#[tokio::test]
async fn a_session_is_used_for_so_long_while_the_store_is_away() {
    let (mut redis, upstream, clock) = (Redis::start(), Upstream::start(), Clock::manual(1_795_395_600_000));
    let builder = Gateway::with(keyed(&upstream)).redis(&redis).set("/store/cache/away_age_max_ms", 60_000);
    let gateway = builder.clock(&clock).start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    hears(&gateway).await;
    assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    redis.kill();

    let refused = || gateway.metric("stile_refusals_total", &[("reason", "store")]);
    for (after, status, counted) in [(0, 200, 0.0), (59_999, 200, 0.0), (1, 503, 1.0)] {
        clock.advance(Duration::from_millis(after));
        assert_eq!(call(&gateway, "ana-token").await.status(), status, "{after}");
        assert_eq!(refused(), counted, "{after}");
    }
}
