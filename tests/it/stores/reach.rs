//! Gateways on a Redis that speaks TLS, and on a cluster: a key from its making to its end, over two of them.

use serde_json::{Value, json};
use stile_tests::{Builder, Gateway, Redis, Upstream};

use super::shared::{holds_soon, is_remembered};
use super::{call, hears, keyed};

#[tokio::test]
async fn gateways_share_a_redis_that_speaks_tls() {
    let redis = Redis::with_tls();
    a_key_lives_and_goes(|builder| builder.redis(&redis)).await;
}

#[tokio::test]
async fn gateways_share_a_cluster() {
    let nodes = tokio::task::spawn_blocking(Redis::cluster).await.expect("it starts");
    a_key_lives_and_goes(|builder| builder.redis_cluster(&nodes)).await;
}

async fn a_key_lives_and_goes(on: impl Fn(Builder) -> Builder) {
    let upstream = Upstream::start();
    let start = async || on(Gateway::with(keyed(&upstream))).start().await;
    let [one, other] = [start().await, start().await];
    for gateway in [&one, &other] {
        hears(gateway).await;
    }
    let rights = json!({ "orders": { "api_id": "orders" } });
    let policy = json!({ "id": "few", "quota_max": MAX, "quota_renewal_rate": 3600, "access_rights": rights });
    send(&one, "POST", "/tyk/policies", policy).await;
    // Several keys, so that they lie on more than one node.
    for number in 0..6 {
        let made = send(&one, "POST", "/tyk/keys/create", json!({ "apply_policies": ["few"] })).await;
        let token = made["key"].as_str().expect("a token").to_owned();

        // One quota, over both.
        assert_eq!(call(&one, &token).await.status(), 200, "key {number}");
        is_remembered(&other, &token).await;
        let left =
            async || send(&one, "GET", &format!("/tyk/keys/{token}"), Value::Null).await["quota_remaining"].clone();
        let used = MAX - left().await.as_i64().expect("a number");
        for _ in used..MAX {
            assert_eq!(call(&other, &token).await.status(), 200, "key {number}");
        }
        assert_eq!(left().await, 0);
        for gateway in [&one, &other] {
            let refused = call(gateway, &token).await;
            assert_eq!((refused.status(), &refused.json()["error"]), (403, &json!("Quota exceeded")), "key {number}");
        }

        send(&one, "DELETE", &format!("/tyk/keys/{token}"), Value::Null).await;
        // Until it hears of it, the other gateway may know the key yet and no longer what it used, and let it through.
        let disallowed = "Access to this API has been disallowed";
        holds_soon(async || call(&other, &token).await.text().contains(disallowed)).await;
        assert_eq!(call(&one, &token).await.json()["error"], disallowed);
    }
}

async fn send(gateway: &Gateway, method: &str, path: &str, body: Value) -> Value {
    let reply = gateway.manage(method, path).body(body.to_string()).send().await;
    assert_eq!(reply.status(), 200, "{method} {path}: {}", reply.text());
    reply.json()
}

/// More than it takes until a gateway remembers a key.
const MAX: i64 = 40;
