//! Who calls and what they may: tokens of the store, sessions that plugins make, rights, rates and quotas.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::key::KeyHash;
use stile::model::policy::{Policy, PolicyId};
use stile::model::session::{AccessRight, AllowedUrl, Quota, Rate, Session};
use stile::store::Life;
use stile_tests::{Api, Gateway, Reply, Upstream, api, plugin};

const NO_FIELD: (u16, &str) = (401, "Authorization field missing");
const EXPIRED: (u16, &str) = (401, "Key has expired, please renew");
const INACTIVE: (u16, &str) = (403, "Key is inactive, please renew");
const NO_API: (u16, &str) = (403, "Access to this API has been disallowed");
const NO_QUOTA: (u16, &str) = (403, "Quota exceeded");
const TOO_MANY: (u16, &str) = (429, "Rate Limit Exceeded");

/// An API whose callers have tokens.
fn keyed(upstream: &Upstream) -> Api {
    api("orders").upstream(upstream).set("/auth", json!({}))
}

/// An API whose plugin makes this session of every caller.
fn made(upstream: &Upstream, session: Value) -> Api {
    api("orders").upstream(upstream).auth(plugin("session").config(session))
}

async fn keep(gateway: &Gateway, token: &str, session: Session) {
    assert!(
        gateway.store().create_session(&KeyHash::of(token), &session, Life::Forever).await.expect("the store is there")
    );
}

async fn call(gateway: &Gateway, token: &str) -> Reply {
    gateway.get("/orders/1").header("authorization", token).send().await
}

#[track_caller]
fn refused(reply: &Reply, (status, message): (u16, &str)) {
    assert_eq!((reply.status(), &reply.json()["error"]), (status, &Value::from(message)));
}

#[tokio::test]
async fn a_token_of_the_store_lets_in_and_any_other_does_not() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream).set("/auth/strip_credential", true)).start().await;
    keep(&gateway, "ana-token", Session::default()).await;

    assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    assert_eq!(upstream.last().header("authorization"), None);
    assert_eq!(call(&gateway, "Bearer ana-token").await.status(), 200);
    refused(&call(&gateway, "ben-token").await, NO_API);
    refused(&call(&gateway, "an").await, NO_API);
    let nobody = gateway.get("/orders/1").send().await;
    refused(&nobody, NO_FIELD);
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    refused(&call(&gateway, "Bearer ").await, NO_FIELD);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_token_may_stand_in_a_query_parameter_or_a_cookie() {
    let upstream = Upstream::start();
    let query = keyed(&upstream).set("/auth/credential", json!({ "query": "token" }));
    let cookie = api("shop").upstream(&upstream).set("/auth", json!({ "credential": { "cookie": "sid" } }));
    let gateway = Gateway::with(query).and(cookie).start().await;
    keep(&gateway, "ana-token", Session::default()).await;

    assert_eq!(gateway.get("/orders/1?token=ana-token").send().await.status(), 200);
    assert_eq!(gateway.get("/orders/1?token=ben-token").send().await.status(), 403);
    assert_eq!(gateway.get("/shop/1").header("cookie", "a=b; sid=ana-token").send().await.status(), 200);
    assert_eq!(gateway.get("/shop/1").header("cookie", "a=b").send().await.status(), 401);
}

#[tokio::test]
async fn what_a_key_is_not_good_for_is_refused_as_in_tyk() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream).set("/organisation", "red")).start().await;
    let right = |id: &str| AccessRight { api_id: id.to_owned(), ..AccessRight::default() };
    keep(&gateway, "expired", Session { expires: 1, ..Session::default() }).await;
    keep(&gateway, "inactive", Session { inactive: true, ..Session::default() }).await;
    keep(&gateway, "elsewhere", Session { access_rights: vec![right("other")], ..Session::default() }).await;
    keep(&gateway, "here", Session { access_rights: vec![right("other"), right("orders")], ..Session::default() })
        .await;
    keep(&gateway, "of-blue", Session { organisation: "blue".to_owned(), ..Session::default() }).await;
    keep(&gateway, "of-red", Session { organisation: "red".to_owned(), ..Session::default() }).await;

    refused(&call(&gateway, "expired").await, EXPIRED);
    refused(&call(&gateway, "inactive").await, INACTIVE);
    refused(&call(&gateway, "elsewhere").await, NO_API);
    refused(&call(&gateway, "of-blue").await, NO_API);
    assert_eq!(call(&gateway, "here").await.status(), 200);
    assert_eq!(call(&gateway, "of-red").await.status(), 200);
    // By its own name, as in Tyk: the organisation in front is added.
    keep(&gateway, "redana", Session { organisation: "red".to_owned(), ..Session::default() }).await;
    assert_eq!(call(&gateway, "redana").await.status(), 200);
    assert_eq!(call(&gateway, "ana").await.status(), 200);
}

#[tokio::test]
async fn a_deleted_key_is_refused_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream)).start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    assert_eq!(call(&gateway, "ana-token").await.status(), 200);

    assert!(gateway.store().delete_session(&KeyHash::of("ana-token")).await.expect("the store is there"));

    refused(&call(&gateway, "ana-token").await, NO_API);
}

#[tokio::test]
async fn a_rate_lets_through_what_it_says_and_tells_when_to_try_again() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream)).start().await;
    let rate = Rate { requests: 3.0, per_seconds: 3600.0, ..Rate::default() };
    keep(&gateway, "ana-token", Session { rate, ..Session::default() }).await;
    keep(&gateway, "ben-token", Session { rate, ..Session::default() }).await;

    for left in ["2", "1", "0"] {
        let reply = call(&gateway, "ana-token").await;
        assert_eq!(reply.status(), 200);
        assert!(
            reply.header("ratelimit").is_some_and(|r| r.starts_with(&format!("\"rate\";r={left};t="))),
            "{reply:?}"
        );
        assert_eq!(reply.header("ratelimit-policy"), Some("\"rate\";q=3;w=3600"));
    }
    let late = call(&gateway, "ana-token").await;
    refused(&late, TOO_MANY);
    let wait: u64 = late.header("retry-after").expect("a 429 tells").parse().expect("in seconds");
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert_eq!(upstream.calls(), 3);
    // One caller's rate is nobody else's.
    assert_eq!(call(&gateway, "ben-token").await.status(), 200);
}

/// As in Tyk with `rate_limits`: seconds since 1970, and on 429 too.
#[tokio::test]
async fn the_fields_of_a_rate_say_when_it_resets_on_answers_and_refusals_alike() {
    const NOW: u64 = 1_800_000_000;
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW * 1000));
    let of = |id: &str, headers: &str| {
        let limit = json!({ "requests": 2, "per_seconds": 3600, "algorithm": "fixed", "headers": headers });
        api(id).upstream(&upstream).set("/rate_limit", limit)
    };
    let apis = Gateway::with(of("rate", "rate")).and(of("quota", "quota")).and(of("off", "off"));
    let gateway = apis.clock(&clock).start().await;
    let number = |reply: &Reply, name: &str| reply.header(name).map(|text| text.parse::<u64>().expect("a number"));
    for (status, left) in [(200, 1), (200, 0), (429, 0)] {
        let [rate, quota, off] = [gateway.get("/rate/"), gateway.get("/quota/"), gateway.get("/off/")];
        let (rate, quota, off) = (rate.send().await, quota.send().await, off.send().await);
        for reply in [&rate, &quota, &off] {
            assert_eq!(reply.status(), status);
        }
        assert_eq!(number(&rate, "x-ratelimit-limit"), Some(2));
        assert_eq!(number(&rate, "x-ratelimit-remaining"), Some(left));
        let reset = number(&rate, "x-ratelimit-reset").expect("it is told");
        assert!((NOW + 1..=NOW + 3600).contains(&reset), "{reset}");
        let wait = format!("\"rate\";r={left};t={}", reset - NOW);
        assert_eq!(rate.header("ratelimit"), Some(&*wait));
        assert_eq!(number(&rate, "retry-after"), (status == 429).then_some(reset - NOW));
        // There is no quota.
        assert_eq!((quota.header("x-ratelimit-limit"), quota.header("ratelimit")), (None, Some(&*wait)));
        for name in ["x-ratelimit-limit", "x-ratelimit-reset", "ratelimit", "ratelimit-policy"] {
            assert_eq!(off.header(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_quota_is_used_up_once_however_many_ask_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream)).set("/workers", 2).start().await;
    let quota = Quota { max: 10, renewal_rate: 3600, ..Quota::default() };
    keep(&gateway, "ana-token", Session { quota, ..Session::default() }).await;

    let replies = join_all((0..100).map(|_| call(&gateway, "ana-token"))).await;

    let let_through: Vec<&Reply> = replies.iter().filter(|reply| reply.status() == 200).collect();
    assert_eq!((let_through.len(), upstream.calls()), (10, 10));
    let mut left: Vec<&str> = let_through.iter().filter_map(|reply| reply.header("x-ratelimit-remaining")).collect();
    left.sort_unstable();
    assert_eq!(left, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(let_through.iter().all(|reply| reply.header("x-ratelimit-limit") == Some("10")));
    replies.iter().filter(|reply| reply.status() != 200).for_each(|reply| refused(reply, NO_QUOTA));
}

/// Tyk counts what it refuses too, so that one who goes on asking is kept out for ever.
#[tokio::test]
async fn what_a_rate_refuses_uses_no_quota() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream)).start().await;
    let rate = Rate { requests: 2.0, per_seconds: 3600.0, ..Rate::default() };
    let quota = Quota { max: 10, renewal_rate: 3600, ..Quota::default() };
    keep(&gateway, "ana-token", Session { rate, quota, ..Session::default() }).await;

    for _ in 0..2 {
        assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    }
    for _ in 0..5 {
        refused(&call(&gateway, "ana-token").await, TOO_MANY);
    }

    let owner = stile::store::Owner::session(&KeyHash::of("ana-token"), None);
    let limit = stile::model::limit::QuotaLimit::of(&quota).expect("there is one");
    assert_eq!(gateway.store().quota(&owner, &limit).await.expect("the store is there").remaining, 8);
}

#[tokio::test]
async fn an_api_has_a_rate_of_its_own_that_all_callers_share() {
    let upstream = Upstream::start();
    let limited = json!({ "requests": 2, "per_seconds": 3600 });
    let gateway = Gateway::with(api("orders").upstream(&upstream).set("/rate_limit", limited)).start().await;

    for _ in 0..2 {
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    }
    refused(&gateway.get("/orders/1").send().await, (429, "API Rate Limit Exceeded"));
    assert!(gateway.metric("stile_refusals_total", &[("reason", "api_rate")]) > 0.0);
}

#[tokio::test]
async fn a_session_that_a_plugin_makes_has_limits_as_any_other() {
    let upstream = Upstream::start();
    let session = json!({ "alias": "ana", "rate": 2, "per_seconds": 3600 });
    let gateway = Gateway::with(made(&upstream, session)).start().await;

    for _ in 0..2 {
        assert_eq!(call(&gateway, "ana").await.status(), 200);
    }
    refused(&call(&gateway, "ana").await, TOO_MANY);
    assert_eq!(call(&gateway, "ben").await.status(), 200);
}

#[tokio::test]
async fn what_a_plugin_says_of_a_caller_gets_the_codes_of_tyk() {
    let upstream = Upstream::start();
    for (session, expected) in [
        (json!({ "refuse": "missing" }), NO_FIELD),
        (json!({ "refuse": "unknown" }), NO_API),
        (json!({ "refuse": "expired" }), EXPIRED),
        (json!({ "refuse": "inactive" }), INACTIVE),
        (json!({ "refuse": "fail" }), (403, "Key not authorised")),
        (json!({ "expires": 1 }), EXPIRED),
        (json!({ "inactive": true }), INACTIVE),
        (json!({ "apis": ["other"] }), NO_API),
    ] {
        let gateway = Gateway::with(made(&upstream, session.clone())).start().await;
        let reply = call(&gateway, "ana").await;
        assert_eq!((reply.status(), reply.json()["error"].as_str()), (expected.0, Some(expected.1)), "{session}");
    }
    let gateway = Gateway::with(made(&upstream, json!({ "token": "" }))).start().await;
    refused(&call(&gateway, "ana").await, (403, "Forbidden"));
    assert_eq!(upstream.calls(), 0);
}

/// A session that is made anew with each request must not begin its quota anew.
#[tokio::test]
async fn a_session_made_again_goes_on_with_its_quota() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(made(&upstream, json!({ "quota_max": 3, "quota_renewal_rate": 3600 }))).start().await;
    for _ in 0..3 {
        assert_eq!(call(&gateway, "ana").await.status(), 200);
    }
    refused(&call(&gateway, "ana").await, NO_QUOTA);
}

/// As a key that an operator makes, whatever the API says of how long sessions are kept.
#[tokio::test]
async fn a_session_of_a_plugin_that_is_to_be_deleted_goes_when_its_grace_is_over() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_800_000_000_000));
    let session = json!({ "expires": 1_800_000_010, "deleted_after_seconds": 20 });
    let gateway = Gateway::with(made(&upstream, session)).clock(&clock).start().await;
    assert_eq!(call(&gateway, "ana").await.status(), 200);
    let kept = async || gateway.store().list_sessions(None, 10).await.expect("the store is there").items.len();

    clock.advance(std::time::Duration::from_secs(29));
    assert_eq!(kept().await, 1);
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(kept().await, 0);
}

/// The token of an operator's key, said by a plugin, must not reach that key's session.
#[tokio::test]
async fn a_plugin_cannot_take_the_session_of_an_operators_key() {
    let upstream = Upstream::start();
    let plugin = made(&upstream, json!({ "token": "ana-token", "alias": "mallory" }));
    let tokens = api("shop").upstream(&upstream).set("/auth", json!({}));
    let gateway = Gateway::with(plugin).and(tokens).start().await;
    let ana = Session { alias: "ana".to_owned(), ..Session::default() };
    keep(&gateway, "ana-token", ana.clone()).await;

    assert_eq!(call(&gateway, "whoever").await.status(), 200);

    let kept = gateway.store().session(&KeyHash::of("ana-token")).await.expect("the store is there");
    assert_eq!(kept.map(|kept| kept.session), Some(Arc::new(ana)));
    // And what the plugin keeps is no token elsewhere, whatever bytes a caller finds.
    assert_eq!(gateway.get("/shop/1").header("authorization", "whoever").send().await.status(), 403);
}

/// A query parameter holds any byte, and so could spell whatever a session of a plugin is kept under.
#[tokio::test]
async fn no_token_spells_the_session_of_a_plugin() {
    let upstream = Upstream::start();
    let query = api("q").upstream(&upstream).set("/auth", json!({ "credential": { "query": "t" } }));
    let gateway = Gateway::with(made(&upstream, json!({}))).and(query).start().await;
    assert_eq!(call(&gateway, "ana").await.status(), 200);

    for spelled in ["session%20of%20plugin%00orders%00session%00ana", "ana", "%00ana", "%ffana", "ana%0a"] {
        refused(&gateway.get(&format!("/q/1?t={spelled}")).send().await, NO_API);
    }
}

/// Alternating between two periods of one scope must not begin the counter anew each time.
#[tokio::test]
async fn rights_of_one_scope_with_two_periods_lift_no_limit() {
    let upstream = Upstream::start();
    let fixed = |id: &str| {
        let limit = json!({ "algorithm": "fixed" });
        api(id).upstream(&upstream).set("/auth", json!({})).set("/rate_limit", limit)
    };
    let gateway = Gateway::with(fixed("orders")).and(fixed("shop")).start().await;
    let right = |id: &str, requests, per_seconds| AccessRight {
        api_id: id.to_owned(),
        allowance_scope: "both".to_owned(),
        rate: Some(Rate { requests, per_seconds, ..Rate::default() }),
        ..AccessRight::default()
    };
    let rights = vec![right("orders", 3.0, 36_000.0), right("shop", 100.0, 18_000.0)];
    keep(&gateway, "ana-token", Session { access_rights: rights, ..Session::default() }).await;

    let mut passed = 0;
    for _ in 0..4 {
        for _ in 0..3 {
            passed += u32::from(call(&gateway, "ana-token").await.status() == 200);
        }
        assert_eq!(gateway.get("/shop/1").header("authorization", "ana-token").send().await.status(), 200);
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn token_and_plugin_may_both_be_asked() {
    let upstream = Upstream::start();
    let both = |id: &str, require: &str, session: Value| {
        let auth = json!({ "token": true, "plugin": "session", "config": session, "require": require });
        api(id).upstream(&upstream).auth(plugin("session")).set("/auth", auth)
    };
    let gateway = Gateway::with(both("all", "all", json!({})))
        .and(both("all-refused", "all", json!({ "refuse": "unknown" })))
        .and(both("any", "any", json!({})))
        .and(both("any-refused", "any", json!({ "refuse": "unknown" })))
        .start()
        .await;
    keep(&gateway, "ana-token", Session::default()).await;

    for (path, token, status) in [
        ("/all/1", "ana-token", 200),
        ("/all/1", "ben-token", 403),
        ("/all-refused/1", "ana-token", 403),
        ("/any/1", "ana-token", 200),
        ("/any/1", "ben-token", 200),
        ("/any-refused/1", "ana-token", 200),
        ("/any-refused/1", "ben-token", 403),
    ] {
        let reply = gateway.get(path).header("authorization", token).send().await;
        assert_eq!(reply.status(), status, "{path} {token}");
    }
}

#[tokio::test]
async fn what_hooks_change_of_a_session_is_written_back() {
    let upstream = Upstream::start();
    let writer = |what: &str| plugin("probe").function("everything").config(json!({ "write": [what] }));
    let api = keyed(&upstream).post_auth(writer("metadata")).post(writer("tag"));
    let gateway = Gateway::with(api).grant("probe", ["upstream", "session-limits"]).start().await;
    keep(&gateway, "ana-token", Session::default()).await;

    assert_eq!(call(&gateway, "ana-token").await.status(), 200);

    let kept = gateway.store().session(&KeyHash::of("ana-token")).await.expect("the store is there").expect("kept");
    assert!(!kept.session.metadata.is_empty() && !kept.session.tags.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn a_policy_gives_a_key_its_rights_and_limits_and_a_change_holds_at_once() {
    let upstream = Upstream::start();
    let shop = api("shop").upstream(&upstream).set("/auth", json!({}));
    let gateway = Gateway::with(keyed(&upstream)).and(shop).start().await;
    let gold = |requests| {
        let rate = Rate { requests, per_seconds: 3600.0, ..Rate::default() };
        let right = AccessRight { api_id: "orders".to_owned(), ..AccessRight::default() };
        let id = PolicyId::parse("gold").expect("an id");
        Policy { rate, access_rights: vec![right], ..Policy::new(id) }
    };
    gateway.store().put_policy(&gold(1.0)).await.expect("the store is there");
    keep(&gateway, "ana-token", Session { policies: vec!["gold".to_owned()], ..Session::default() }).await;
    keep(&gateway, "ben-token", Session { policies: vec!["none".to_owned()], ..Session::default() }).await;

    assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    refused(&call(&gateway, "ana-token").await, TOO_MANY);
    refused(&gateway.get("/shop/1").header("authorization", "ana-token").send().await, NO_API);
    refused(&call(&gateway, "ben-token").await, (403, "Forbidden"));

    gateway.store().put_policy(&gold(3.0)).await.expect("the store is there");
    for _ in 0..2 {
        assert_eq!(call(&gateway, "ana-token").await.status(), 200);
    }
    refused(&call(&gateway, "ana-token").await, TOO_MANY);
}

/// What a key has by its policies is not its own: without them it would be good for every API.
#[tokio::test]
async fn no_hook_makes_a_key_good_for_every_api_or_names_a_policy_that_is_not_granted() {
    let upstream = Upstream::start();
    let of = |id: &str, what: &str, granted: Value| {
        let writer = plugin("probe").function("everything").config(json!({ "write": [what] }));
        api(id).upstream(&upstream).set("/auth", json!({ "policies": granted })).post_auth(writer)
    };
    let gateway = Gateway::with(of("rights", "no-rights", json!([])))
        .and(of("policies", "no-policies", json!([])))
        .and(of("refused", "gold", json!(["silver"])))
        .and(of("granted", "gold", json!(["gold"])))
        .grant("probe", ["upstream", "session-limits"])
        .start()
        .await;
    let right = |id: &str| AccessRight { api_id: id.to_owned(), ..AccessRight::default() };
    let all = ["rights", "policies", "refused", "granted"].map(right).to_vec();
    for id in ["gold", "silver"] {
        let id = PolicyId::parse(id).expect("an id");
        let policy = Policy { access_rights: all.clone(), ..Policy::new(id) };
        gateway.store().put_policy(&policy).await.expect("the store is there");
    }
    let by_policy = Session { policies: vec!["silver".to_owned()], ..Session::default() };
    keep(&gateway, "by-rights", Session { access_rights: all.clone(), ..Session::default() }).await;
    keep(&gateway, "by-policy", by_policy.clone()).await;
    let ask = |path: &str, token: &str| gateway.get(&format!("/{path}/1")).header("authorization", token).send();
    let kept = async |token: &str| {
        let read = gateway.store().session(&KeyHash::of(token)).await.expect("the store is there").expect("it is kept");
        Session::clone(&read.session)
    };

    for (path, token) in [("rights", "by-rights"), ("policies", "by-policy"), ("refused", "by-rights")] {
        assert_eq!(ask(path, token).await.status(), 500, "{path} {token}");
    }
    let failures = [("kind", "bad_output")];
    gateway.metric_becomes("stile_plugin_call_failures_total", &failures, 3.0).await;
    assert_eq!(kept("by-policy").await, by_policy);
    assert_eq!(kept("by-rights").await.policies, Vec::<String>::new());
    assert_eq!(upstream.calls(), 0);

    assert_eq!(ask("rights", "by-policy").await.status(), 200);
    assert_eq!(ask("policies", "by-rights").await.status(), 200);
    assert_eq!(ask("granted", "by-policy").await.status(), 200);
    assert_eq!(kept("by-policy").await.policies, ["gold"]);
}

/// An API whose plugin is asked once for each value of `authorization`.
fn extracted(upstream: &Upstream, session: Value) -> Api {
    let auth = json!({ "plugin": "session", "config": session, "id_extractor": { "from": "header" } });
    api("orders").upstream(upstream).auth(plugin("session")).set("/auth", auth)
}

const LONG: i64 = 99_999_999_999;

#[tokio::test]
async fn a_plugin_is_asked_once_for_each_id_as_long_as_its_answer_is_good() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(extracted(&upstream, json!({ "id_extractor_deadline": LONG }))).start().await;
    for _ in 0..20 {
        for id in ["ana", "ben", "eve"] {
            assert_eq!(call(&gateway, id).await.status(), 200);
        }
    }
    gateway.metric_becomes("stile_plugin_calls_total", &[], 3.0).await;

    let asked_each_time = Gateway::with(extracted(&upstream, json!({}))).start().await;
    for _ in 0..3 {
        assert_eq!(call(&asked_each_time, "ana").await.status(), 200);
    }
    asked_each_time.metric_becomes("stile_plugin_calls_total", &[], 3.0).await;
}

#[tokio::test]
async fn a_stampede_on_a_new_id_asks_the_plugin_once() {
    let upstream = Upstream::start();
    let extracted = extracted(&upstream, json!({ "id_extractor_deadline": LONG }));
    let gateway = Gateway::with(extracted).set("/workers", 2).start().await;

    let replies = join_all((0..100).map(|_| call(&gateway, "ana"))).await;

    assert!(replies.iter().all(|reply| reply.status() == 200));
    gateway.metric_becomes("stile_plugin_calls_total", &[], 1.0).await;
}

#[tokio::test]
async fn a_refused_id_is_remembered_for_a_while() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(extracted(&upstream, json!({ "refuse": "unknown" }))).start().await;
    for _ in 0..10 {
        refused(&call(&gateway, "ana").await, NO_API);
    }
    gateway.metric_becomes("stile_plugin_calls_total", &[], 1.0).await;
}

#[tokio::test]
async fn a_request_without_an_id_never_shares_an_identity() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(extracted(&upstream, json!({ "id_extractor_deadline": LONG }))).start().await;
    refused(&gateway.get("/orders/1").send().await, (400, "Authorization field missing"));
    refused(&call(&gateway, " ").await, (400, "Authorization field missing"));
    gateway.metric_becomes("stile_plugin_calls_total", &[], 0.0).await;
}

#[tokio::test]
async fn an_identity_that_is_deleted_is_asked_for_again() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(extracted(&upstream, json!({ "id_extractor_deadline": LONG }))).start().await;
    assert_eq!(call(&gateway, "ana").await.status(), 200);
    let keys = gateway.store().list_sessions(None, 10).await.expect("the store is there").items;
    assert_eq!(keys.len(), 1);

    assert!(gateway.store().delete_session(&keys[0]).await.expect("the store is there"));

    assert_eq!(call(&gateway, "ana").await.status(), 200);
    gateway.metric_becomes("stile_plugin_calls_total", &[], 2.0).await;
}

#[tokio::test]
async fn a_key_may_be_good_for_some_paths_and_methods_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(keyed(&upstream)).start().await;
    let urls = vec![AllowedUrl { url: "/orders/open".to_owned(), methods: vec!["GET".to_owned()] }];
    let right = AccessRight { api_id: "orders".to_owned(), allowed_urls: urls, ..AccessRight::default() };
    keep(&gateway, "ana-token", Session { access_rights: vec![right], ..Session::default() }).await;
    let ask = |method: &str, path: &str| gateway.call(method, path).header("authorization", "ana-token").send();
    const NO_RESOURCE: (u16, &str) = (403, "Access to this resource has been disallowed");

    assert_eq!(ask("GET", "/orders/open/1").await.status(), 200);
    refused(&ask("POST", "/orders/open/1").await, NO_RESOURCE);
    refused(&ask("GET", "/orders/closed").await, NO_RESOURCE);
    // Tyk finds its pattern anywhere in the path.
    refused(&ask("GET", "/orders/closed/orders/open").await, NO_RESOURCE);
}

/// A hook after the rights must not lead where the caller has none.
#[tokio::test]
async fn a_path_that_a_plugin_changes_is_looked_at_again() {
    let upstream = Upstream::start();
    let mover = plugin("probe").function("everything").config(json!({ "write": ["path"] }));
    let api = keyed(&upstream).post(mover);
    let gateway = Gateway::with(api).grant("probe", ["upstream", "session-limits"]).start().await;
    let urls = vec![AllowedUrl { url: "/orders/1".to_owned(), methods: vec!["GET".to_owned()] }];
    let right = AccessRight { api_id: "orders".to_owned(), allowed_urls: urls, ..AccessRight::default() };
    keep(&gateway, "ana-token", Session { access_rights: vec![right], ..Session::default() }).await;
    keep(&gateway, "ben-token", Session::default()).await;

    refused(&call(&gateway, "ana-token").await, (403, "Access to this resource has been disallowed"));
    assert_eq!(call(&gateway, "ben-token").await.status(), 200);
}

#[tokio::test]
async fn a_plugin_may_name_only_the_policies_that_its_api_grants_it() {
    let upstream = Upstream::start();
    let naming = |id: &str, granted: Value| {
        let auth = json!({ "plugin": "session", "config": { "policies": ["gold"] }, "policies": granted });
        api(id).upstream(&upstream).auth(plugin("session")).set("/auth", auth)
    };
    let gateway = Gateway::with(naming("orders", json!(["silver"])))
        .and(naming("granted", json!(["gold"])))
        .and(naming("all", json!(["*"])))
        .start()
        .await;
    let rights = ["orders", "granted", "all"].map(|id| AccessRight { api_id: id.to_owned(), ..AccessRight::default() });
    let gold = PolicyId::parse("gold").expect("an id");
    let policy = Policy { access_rights: rights.to_vec(), ..Policy::new(gold) };
    gateway.store().put_policy(&policy).await.expect("the store is there");

    refused(&call(&gateway, "ana").await, (403, "Key not authorised"));
    for path in ["/granted/1", "/all/1"] {
        assert_eq!(gateway.get(path).header("authorization", "ana").send().await.status(), 200, "{path}");
    }
}
