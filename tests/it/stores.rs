//! What callers see where sessions and limits are kept on a disk or on a real Redis, which two gateways may share.

mod away;
mod bounds;
mod by_token;
mod floods;
mod identities;
mod kill;
mod kv;
mod reach;
mod ready;
mod shared;
mod shares;
mod status;
mod time;

use serde_json::{Value, json};
use stile::model::key::KeyHash;
use stile::model::session::{Quota, Rate, Session};
use stile::store::Life;
use stile_tests::{Api, Builder, Gateway, Redis, Reply, Upstream, api, plugin};

/// Where a gateway under test keeps what outlives a request.
enum Place {
    Embedded,
    Redis(Redis),
}

impl Place {
    fn each() -> [Self; 2] {
        [Self::Embedded, Self::Redis(Redis::start())]
    }

    fn of(&self, builder: Builder) -> Builder {
        match self {
            Self::Embedded => builder.embedded(),
            Self::Redis(redis) => builder.redis(redis),
        }
    }
}

/// An API whose callers have tokens.
fn keyed(upstream: &Upstream) -> Api {
    api("orders").upstream(upstream).set("/auth", json!({}))
}

/// An API whose plugin makes this session of every caller, and is asked once for each value of `authorization`.
fn extracted(id: &str, upstream: &str, session: Value) -> Api {
    let auth = json!({ "plugin": "session", "config": session, "id_extractor": { "from": "header" } });
    api(id).upstream_url(upstream).auth(plugin("session")).set("/auth", auth)
}

/// So many requests in a year: none comes back while a test runs.
fn rate(requests: u32) -> Rate {
    Rate { requests: requests.into(), per_seconds: YEAR, ..Rate::default() }
}

fn quota(max: i64) -> Quota {
    Quota { max, renewal_rate: 86_400, ..Quota::default() }
}

async fn keep(gateway: &Gateway, token: &str, session: Session) {
    let created = gateway.store().create_session(&KeyHash::of(token), &session, Life::Forever).await;
    assert!(created.expect("the store is there"));
}

async fn call(gateway: &Gateway, token: &str) -> Reply {
    gateway.get("/orders/1").header("authorization", token).send().await
}

/// Waits until the gateway hears what others change: only then does it answer from memory.
async fn hears(gateway: &Gateway) {
    for _ in 0..1_000 {
        call(gateway, "somebody unknown").await;
        if gateway.metric("stile_session_cache_hits_total", &[]) > 0.0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    panic!("the gateway does not hear of changes");
}

const YEAR: f64 = 31_536_000.0;
/// A deadline in the far future.
const LONG: i64 = 99_999_999_999;
