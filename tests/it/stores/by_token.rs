//! Plugins that read and change the sessions of keys whose tokens they are told.

use futures_util::future::join_all;
use serde_json::{Value, json};
use stile::model::id::{ApiId, PluginName};
use stile::model::key::KeyHash;
use stile::model::session::{AccessRight, Rate, Session};
use stile_tests::{Api, Builder, Gateway, Redis, Reply, Upstream, api, plugin};

use super::shared::{holds_soon, is_remembered};
use super::{Place, call, hears, keep, keyed};

/// An API that does to sessions what it is asked.
fn asked(upstream: &Upstream) -> Api {
    api("keys").upstream(upstream).endpoint("POST", "/", plugin("stored"))
}

/// Both APIs, of one organisation. A machine that is busy with other tests takes its time over a call.
fn both(upstream: &Upstream, organisation: &str) -> Builder {
    let of = |api: Api| api.set("/organisation", organisation);
    Gateway::with(of(keyed(upstream))).and(of(asked(upstream))).limits("stored", json!({ "deadline_ms": 20_000 }))
}

async fn ask(gateway: &Gateway, what: Value) -> Reply {
    gateway.post("/keys/", what.to_string()).send().await
}

async fn read(gateway: &Gateway, token: &str) -> Value {
    let reply = ask(gateway, json!({ "token": token, "read": 1 })).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.json()["read"].clone()
}

async fn edit(gateway: &Gateway, token: &str, edit: Value) -> Value {
    let reply = ask(gateway, json!({ "token": token, "edit": edit })).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.json()["edited"].clone()
}

async fn stored(gateway: &Gateway, token: &str) -> Option<Session> {
    let read = gateway.store().session(&KeyHash::of(token)).await.expect("the store is there");
    read.map(|stored| Session::clone(&stored.session))
}

fn ana() -> Session {
    let right = AccessRight {
        api_id: "orders".to_owned(),
        extra: vec![("later".to_owned(), b"[1]".to_vec())],
        ..AccessRight::default()
    };
    Session {
        organisation: "red".to_owned(),
        alias: "ana".to_owned(),
        tags: vec!["first".to_owned()],
        metadata: [("plan".to_owned(), json!({ "name": "gold" }))].into(),
        access_rights: vec![right],
        // Tyk keeps the secret of signed requests there.
        extra: vec![("hmac_string".to_owned(), b"\"a secret\"".to_vec())],
        ..Session::default()
    }
}

#[tokio::test]
async fn a_session_is_read_as_it_is_kept_but_for_what_may_be_a_secret() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(both(&upstream, "red")).grant("stored", ["sessions"]).start().await;
        keep(&gateway, "redana", ana()).await;

        let expected = json!({
            "alias": "ana", "organisation": "red", "tags": ["first"], "metadata": { "plan": "{\"name\":\"gold\"}" },
            "rate": 0.0, "inactive": false, "rights": [["orders", 0]], "policies": [], "key_id": "", "extra": 0,
        });
        assert_eq!(read(&gateway, "redana").await, expected);
        // By its own name too, as callers may send it.
        assert_eq!(read(&gateway, "ana").await, expected);
        let labels = [("api", "keys"), ("plugin", "stored"), ("call", "get"), ("outcome", "ok")];
        assert_eq!(gateway.metric("stile_plugin_session_calls_total", &labels), 2.0);
    }
}

#[tokio::test]
async fn a_change_is_kept_whole_and_holds_for_the_next_request_of_the_key() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let grants = ["sessions", "session-limits"];
        let gateway = place.of(both(&upstream, "red")).grant("stored", grants).start().await;
        keep(&gateway, "redana", ana()).await;
        assert_eq!(call(&gateway, "redana").await.status(), 200);

        let changes = json!({ "metadata": { "plan": "iron" }, "tag": "seen", "alias": "Ana", "inactive": true });
        assert_eq!(edit(&gateway, "ana", changes).await, "ok");

        assert_eq!(call(&gateway, "redana").await.status(), 403);
        let changed = Session {
            metadata: [("plan".to_owned(), json!("iron"))].into(),
            tags: vec!["first".to_owned(), "seen".to_owned()],
            alias: "Ana".to_owned(),
            inactive: true,
            ..ana()
        };
        assert_eq!(stored(&gateway, "redana").await, Some(changed));
        assert_eq!(read(&gateway, "redana").await["inactive"], true);
        assert_eq!(edit(&gateway, "ana", json!({ "inactive": false })).await, "ok");
        assert_eq!(call(&gateway, "redana").await.status(), 200);
    }
}

#[tokio::test]
async fn a_change_on_one_gateway_holds_on_the_other() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let start =
        async || both(&upstream, "").grant("stored", ["sessions", "session-limits"]).redis(&redis).start().await;
    let [one, other] = [start().await, start().await];
    for gateway in [&one, &other] {
        hears(gateway).await;
    }
    keep(&one, "ana-token", Session::default()).await;
    is_remembered(&other, "ana-token").await;
    for inactive in [true, false, true] {
        assert_eq!(edit(&one, "ana-token", json!({ "inactive": inactive })).await, "ok");
        let status = if inactive { 403 } else { 200 };
        assert_eq!(call(&one, "ana-token").await.status(), status);
        holds_soon(async || call(&other, "ana-token").await.status() == status).await;
    }
}

#[tokio::test]
async fn limits_and_rights_need_a_grant_of_their_own() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(both(&upstream, "red")).grant("stored", ["sessions"]).start().await;
        keep(&gateway, "redana", ana()).await;
        for changes in [json!({ "rate": 1e6 }), json!({ "tag": "seen", "inactive": true })] {
            assert_eq!(edit(&gateway, "redana", changes).await, "Error::Denied");
        }
        // All or nothing.
        assert_eq!(stored(&gateway, "redana").await, Some(ana()));

        let grants = ["sessions", "session-limits"];
        let gateway = Place::Embedded.of(both(&upstream, "red")).grant("stored", grants).start().await;
        keep(&gateway, "redana", ana()).await;
        assert_eq!(edit(&gateway, "redana", json!({ "rate": 1e6 })).await, "ok");
        let rate = Rate { requests: 1e6, per_seconds: 1.0, ..Rate::default() };
        assert_eq!(stored(&gateway, "redana").await, Some(Session { rate, ..ana() }));
    }
}

/// A key for one API stays one, whatever grants a plugin has.
#[tokio::test]
async fn no_change_makes_a_key_good_for_every_api_or_names_a_policy_that_is_not_granted() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let grants = ["sessions", "session-limits"];
        let gateway = place.of(both(&upstream, "red")).grant("stored", grants).start().await;
        keep(&gateway, "redana", ana()).await;
        for changes in [
            json!({ "apis": [] }),
            json!({ "alias": "mallory", "apis": [], "policies": [] }),
            json!({ "policies": ["gold"] }),
        ] {
            let refused = edit(&gateway, "redana", changes.clone()).await;
            assert!(
                refused.as_str().is_some_and(|text| text.starts_with("Error::EditInvalid(")),
                "{changes}: {refused}"
            );
        }
        // All or nothing.
        assert_eq!(stored(&gateway, "redana").await, Some(ana()));
        let calls = [("call", "update"), ("outcome", "edit_invalid")];
        gateway.metric_becomes("stile_plugin_session_calls_total", &calls, 3.0).await;
        assert_eq!(edit(&gateway, "redana", json!({ "apis": ["orders", "shop"] })).await, "ok");

        let gateway =
            both(&upstream, "red").grant("stored", grants).set("/control/allow_master_keys", true).start().await;
        keep(&gateway, "redana", ana()).await;
        assert_eq!(edit(&gateway, "redana", json!({ "apis": [] })).await, "ok");
    }
}

/// Neither can be told from the other: a plugin is no way to find out which tokens are good elsewhere.
#[tokio::test]
async fn a_session_of_another_organisation_is_not_there() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(both(&upstream, "red")).grant("stored", ["sessions"]).start().await;
        let blue = Session { organisation: "blue".to_owned(), ..ana() };
        keep(&gateway, "blueben", blue.clone()).await;
        // Good at every API, so of none of them.
        let of_nobody = Session { organisation: String::new(), ..ana() };
        keep(&gateway, "of-nobody", of_nobody.clone()).await;

        for token in ["blueben", "of-nobody", "nobody-at-all"] {
            assert_eq!(read(&gateway, token).await, "Error::NotFound", "{token}");
            assert_eq!(edit(&gateway, token, json!({ "alias": "mallory" })).await, "Error::NotFound", "{token}");
            // What the edits are does not tell either.
            assert_eq!(edit(&gateway, token, json!({ "rate": 1 })).await, "Error::NotFound", "{token}");
        }
        assert_eq!(stored(&gateway, "blueben").await, Some(blue));
        assert_eq!(stored(&gateway, "of-nobody").await, Some(of_nobody));
    }
}

/// A session that an `auth` plugin made is kept under a hash of bytes that are no text, so nothing names it.
#[tokio::test]
async fn nothing_names_the_session_of_a_plugin_nor_a_key_by_its_hash() {
    let upstream = Upstream::start();
    let made = api("made").upstream(&upstream).auth(plugin("session").config(json!({ "alias": "theirs" })));
    let gateway = both(&upstream, "").and(made).grant("stored", ["sessions"]).start().await;
    assert_eq!(gateway.get("/made/1").header("authorization", "ana").send().await.status(), 200);
    let name = |text: &str| (ApiId::parse("made").expect("an id"), PluginName::parse(text).expect("a name"));
    let (api, plugin) = name("session");
    let key = KeyHash::of_plugin(&api, &plugin, b"ana");
    let kept = gateway.store().session(&key).await.expect("it is there").expect("the plugin made it");
    keep(&gateway, "key-of-ana", Session { alias: "ana".to_owned(), ..Session::default() }).await;

    let spelt = "\u{fffd}stile plugin session 1\0\0\0\0\0\0\0\u{4}made\0\0\0\0\0\0\0\u{7}session\0\0\0\0\0\0\0\u{3}ana";
    let of_ana = KeyHash::of("key-of-ana");
    let tokens = ["ana", key.as_str(), spelt, of_ana.as_str(), "key-of-ana\0", "\0key-of-ana", "", "ke", "key-of-an"];
    for token in tokens {
        assert_eq!(read(&gateway, token).await, "Error::NotFound", "{token:?}");
        assert_eq!(edit(&gateway, token, json!({ "alias": "mallory" })).await, "Error::NotFound", "{token:?}");
    }
    let long = ask(&gateway, json!({ "token": "0123456789", "repeat": 100_000, "read": 1, "edit": {} })).await;
    assert_eq!(long.json(), json!({ "read": "Error::NotFound", "edited": "Error::NotFound" }));

    let still = gateway.store().session(&key).await.expect("it is there");
    assert_eq!(still, Some(kept));
    assert_eq!(read(&gateway, "key-of-ana").await["alias"], "ana");
}

#[tokio::test]
async fn a_plugin_that_was_not_granted_sessions_does_not_load_and_the_line_to_add_is_told() {
    let upstream = Upstream::start();
    let reading = || api("read").upstream(&upstream).pre("reader");
    let problems = async |builder: Builder| builder.try_start().await.expect("the others are served").problems();

    // Who may change them may read them.
    let told = problems(both(&upstream, "")).await;
    assert!(told.contains("add `sessions` to `plugins.stored.grants`"), "{told}");
    let told = problems(both(&upstream, "").grant("stored", ["sessions-read"])).await;
    assert!(told.contains("add `sessions` to `plugins.stored.grants`"), "{told}");
    let told = problems(Gateway::with(reading()).grant("reader", ["log", "kv", "session-limits"])).await;
    assert!(told.contains("add `sessions-read` to `plugins.reader.grants`"), "{told}");

    for grant in ["sessions-read", "sessions"] {
        let builder = Gateway::with(reading()).grant("reader", [grant]);
        let gateway = builder.limits("reader", json!({ "deadline_ms": 20_000 })).start().await;
        keep(&gateway, "ana-token", Session { alias: "ana".to_owned(), ..Session::default() }).await;
        gateway.get("/read/1").header("x-of", "ana-token").send().await;
        assert_eq!(upstream.last().header("x-alias"), Some("ana"), "{grant}");
    }
}

// limit: plugin_limits.session_calls_max
#[tokio::test]
async fn tokens_cannot_be_guessed_one_after_the_other() {
    let upstream = Upstream::start();
    let gateway = both(&upstream, "").grant("stored", ["sessions"]).start().await;
    let tries = async |read: usize| ask(&gateway, json!({ "token": "a-guess", "read": read })).await.status();
    assert_eq!(tries(20).await, 200);
    assert_eq!(tries(21).await, 500);
    let labels = [("api", "keys"), ("plugin", "stored"), ("kind", "host_call")];
    gateway.metric_becomes("stile_plugin_call_failures_total", &labels, 1.0).await;
    let guessed = [("api", "keys"), ("plugin", "stored"), ("call", "get"), ("outcome", "not_found")];
    assert_eq!(gateway.metric("stile_plugin_session_calls_total", &guessed), 40.0);

    let limits = json!({ "deadline_ms": 20_000, "session_calls_max": 1 });
    let gateway = both(&upstream, "").grant("stored", ["sessions"]).limits("stored", limits).start().await;
    assert_eq!(ask(&gateway, json!({ "token": "a-guess", "read": 1 })).await.status(), 200);
    assert_eq!(ask(&gateway, json!({ "token": "a-guess", "read": 1, "edit": {} })).await.status(), 500);
}

#[tokio::test]
async fn what_is_too_much_for_a_session_or_a_call_is_refused() {
    let upstream = Upstream::start();
    let gateway = both(&upstream, "").grant("stored", ["sessions"]).start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    assert_eq!(edit(&gateway, "ana-token", json!({ "large": 60_000 })).await, "ok");
    // With 60,000 bytes in place of the others there is room; beside them there is not.
    assert_eq!(edit(&gateway, "ana-token", json!({ "large": 60_001 })).await, "ok");
    let beside = json!({ "metadata": { "b": "x".repeat(10_000) } });
    assert_eq!(edit(&gateway, "ana-token", beside).await, "Error::TooLarge");
    let invalid = edit(&gateway, "ana-token", json!({ "large": 70_000 })).await;
    assert!(invalid.as_str().is_some_and(|text| text.starts_with("Error::EditInvalid")), "{invalid}");

    let limits = json!({ "deadline_ms": 20_000, "host_call_bytes_max": 5_000 });
    let gateway = both(&upstream, "").grant("stored", ["sessions"]).limits("stored", limits).start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    assert_eq!(edit(&gateway, "ana-token", json!({ "large": 4_000 })).await, "ok");
    assert_eq!(ask(&gateway, json!({ "token": "ana-token", "edit": { "large": 5_000 } })).await.status(), 500);
}

#[tokio::test]
async fn of_many_changes_at_once_none_is_lost() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(both(&upstream, "red")).grant("stored", ["sessions"]).set("/workers", 2).start().await;
        keep(&gateway, "redana", Session { tags: Vec::new(), ..ana() }).await;
        let tags: Vec<String> = (0..6).map(|number| number.to_string()).collect();
        let edits = tags.iter().map(|tag| edit(&gateway, "redana", json!({ "tag": tag })));
        assert_eq!(join_all(edits).await, vec![json!("ok"); 6]);
        let mut kept = stored(&gateway, "redana").await.expect("it is kept").tags;
        kept.sort_unstable();
        assert_eq!(kept, tags);
    }
}

#[tokio::test]
async fn a_key_that_is_deleted_under_many_changes_stays_deleted() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(both(&upstream, "red")).grant("stored", ["sessions"]).set("/workers", 2).start().await;
        for round in 0..5 {
            let token = format!("red-{round}");
            keep(&gateway, &token, ana()).await;
            let edits = (0..6).map(|tag| edit(&gateway, &token, json!({ "tag": tag.to_string() })));
            let delete = async {
                let deleted = gateway.store().delete_session(&KeyHash::of(&token)).await;
                assert_eq!(deleted, Ok(true));
                Value::Null
            };
            let delete: futures_util::future::LocalBoxFuture<'_, Value> = Box::pin(delete);
            let edits = edits.map(|edit| Box::pin(edit) as futures_util::future::LocalBoxFuture<'_, Value>);
            for answer in join_all(edits.chain([delete])).await {
                assert!(answer == "ok" || answer == "Error::NotFound" || answer.is_null(), "{answer}");
            }
            assert_eq!(stored(&gateway, &token).await, None, "round {round}");
            assert_eq!(call(&gateway, &token).await.status(), 403);
        }
    }
}

#[tokio::test]
async fn without_the_store_nothing_is_said_of_any_token() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let gateway = both(&upstream, "").grant("stored", ["sessions"]).redis(&redis).start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    assert_eq!(read(&gateway, "ana-token").await["alias"], "");
    redis.kill();
    for token in ["ana-token", "nobody"] {
        // News of the end may be on their way: what is in memory until then is as good as it was.
        let mut answer = Value::Null;
        for _ in 0..1_000 {
            answer = read(&gateway, token).await;
            if answer == "Error::Unavailable" {
                break;
            }
        }
        assert_eq!(answer, "Error::Unavailable", "{token}");
        assert_eq!(edit(&gateway, token, json!({ "alias": "Ana" })).await, "Error::Unavailable", "{token}");
    }
}
