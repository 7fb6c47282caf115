//! Keys and policies by the control port: Tyk's paths, bodies and statuses, but where the reference says otherwise.

use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::key::KeyHash;
use stile_tests::{Folder, Gateway, Reply, Upstream, api};

async fn gateway() -> Gateway {
    let upstream = Upstream::start();
    Gateway::with(api("orders").upstream(&upstream).set("/organisation", "default")).start().await
}

/// A key with one right, as a body.
fn key(fields: Value) -> Value {
    let mut key = json!({
        "org_id": "default", "rate": 1000, "per": 1, "quota_max": -1, "quota_renewal_rate": 60,
        "access_rights": { "orders": { "api_id": "orders", "api_name": "orders", "versions": ["Default"] } },
    });
    if let (Some(key), Value::Object(fields)) = (key.as_object_mut(), fields) {
        key.extend(fields);
    }
    key
}

async fn send(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Reply {
    gateway.manage(method, path).body(body.to_string()).send().await
}

#[track_caller]
fn check(reply: &Reply, status: u16, body: &Value) {
    assert_eq!((reply.status(), &reply.json()), (status, body));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

fn error(message: &str) -> Value {
    json!({ "status": "error", "message": message })
}

#[tokio::test]
async fn without_the_secret_nothing_is_told() {
    let gateway = gateway().await;
    let refused = error("Attempted administrative access with invalid or missing key!");
    for path in ["/tyk/keys", "/tyk/keys/x", "/tyk/policies", "/tyk/nowhere"] {
        check(&gateway.control(path).send().await, 403, &refused);
        for secret in ["", "bad", "secret-of-test", "secret-of-tests2", "SECRET-OF-TESTS"] {
            check(&gateway.control(path).header("x-tyk-authorization", secret).send().await, 403, &refused);
        }
    }
    assert!((gateway.metric("stile_control_refused_total", &[]) - 24.0).abs() < 0.1);
    assert_eq!(gateway.get("/tyk/keys").send().await.status(), 404, "the data port knows nothing of it");
}

#[tokio::test]
async fn a_gateway_without_a_secret_makes_one() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/control", json!({ "address": "127.0.0.1:0" }));
    let gateway = gateway.start().await;
    assert_eq!(gateway.manage("GET", "/tyk/keys").send().await.status(), 403);
    assert_eq!(gateway.control("/live").send().await.status(), 200);
}

#[tokio::test]
async fn a_made_key_is_told_once_and_kept_as_its_hash() {
    let gateway = gateway().await;
    for path in ["/tyk/keys/create", "/tyk/keys"] {
        let reply = send(&gateway, "POST", path, &key(json!({ "alias": "bob", "later": [1] }))).await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
        let made = reply.json();
        let token = made["key"].as_str().expect("a token");
        let random = token.strip_prefix("default").expect("the organisation comes first");
        assert_eq!(random.len(), 64);
        assert!(random.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = KeyHash::of(token);
        assert_eq!(made, json!({ "key": token, "status": "ok", "action": "added", "key_hash": hash.as_str() }));

        let listed = gateway.manage("GET", "/tyk/keys").send().await.json();
        assert!(listed["keys"].as_array().expect("a list").contains(&json!(hash.as_str())));
        for path in [format!("/tyk/keys/{token}"), format!("/tyk/keys/{hash}?hashed=true")] {
            let shown = gateway.manage("GET", &path).send().await.json();
            assert_eq!((&shown["alias"], &shown["later"]), (&json!("bob"), &json!([1])), "unknown fields survive");
            assert!(!shown.to_string().contains(token));
        }
    }
}

#[tokio::test]
async fn a_key_of_ones_own_name_lives_and_goes() {
    let gateway = gateway().await;
    let hash = KeyHash::of("defaultk-1");
    let added = json!({ "key": "defaultk-1", "status": "ok", "action": "added", "key_hash": hash.as_str() });
    check(&send(&gateway, "POST", "/tyk/keys/k-1", &key(json!({ "tags": ["a"] }))).await, 200, &added);
    check(&send(&gateway, "POST", "/tyk/keys/defaultk-1", &key(json!({ "tags": ["a"] }))).await, 200, &added);

    let missing = error("Key not found");
    check(&gateway.manage("GET", "/tyk/keys/k-1").send().await, 404, &missing);
    for path in [
        "/tyk/keys/defaultk-1".to_owned(),
        "/tyk/keys/k-1?org_id=default".to_owned(),
        "/tyk/keys/k-1?api_id=orders".to_owned(),
        format!("/tyk/keys/{hash}?hashed=true"),
    ] {
        let shown = gateway.manage("GET", &path).send().await;
        assert_eq!((shown.status(), &shown.json()["tags"]), (200, &json!(["a"])), "{path}");
    }

    let created = gateway.manage("GET", "/tyk/keys/defaultk-1").send().await.json()["date_created"].clone();
    let modified = json!({ "key": "defaultk-1", "status": "ok", "action": "modified" });
    check(&send(&gateway, "PUT", "/tyk/keys/k-1", &key(json!({ "tags": ["b"] }))).await, 200, &modified);
    let shown = gateway.manage("GET", "/tyk/keys/defaultk-1").send().await.json();
    assert_eq!((&shown["tags"], &shown["date_created"]), (&json!(["b"]), &created));
    check(&send(&gateway, "PUT", "/tyk/keys/other", &key(json!({}))).await, 404, &error("Key is not found"));

    let unknown = error("There is no such key found");
    check(&gateway.manage("DELETE", "/tyk/keys/k-1").send().await, 404, &unknown);
    let deleted = json!({ "key": "defaultk-1", "status": "ok", "action": "deleted" });
    check(&gateway.manage("DELETE", "/tyk/keys/k-1?org_id=default").send().await, 200, &deleted);
    check(&gateway.manage("DELETE", "/tyk/keys/k-1?org_id=default").send().await, 404, &unknown);
    check(&gateway.manage("GET", "/tyk/keys/defaultk-1").send().await, 404, &missing);
    assert!((gateway.metric("stile_control_changes_total", &[]) - 4.0).abs() < 0.1);
}

#[tokio::test]
async fn a_key_is_shown_as_tyk_shows_it() {
    let gateway = gateway().await;
    send(&gateway, "POST", "/tyk/keys/bob", &key(json!({ "alias": "bob", "tags": ["vip"] }))).await;
    let mut shown = gateway.manage("GET", "/tyk/keys/defaultbob").send().await.json();
    let shown = shown.as_object_mut().expect("an object");
    for of_time in ["date_created", "last_updated", "quota_renews"] {
        assert!(shown.remove(of_time).is_some(), "{of_time}");
    }
    let expected = json!({
        "rate": 1000, "per": 1, "quota_max": -1, "quota_renewal_rate": 60, "org_id": "default", "tags": ["vip"],
        "alias": "bob",
        "access_rights": { "orders": { "api_name": "orders", "api_id": "orders", "versions": ["Default"] } },
    });
    assert_eq!(&Value::Object(shown.clone()), &expected);
}

#[tokio::test]
async fn a_key_is_shown_with_its_policies_as_tyk_shows_it() {
    let upstream = Upstream::start();
    let keyed = api("key").upstream(&upstream).set("/organisation", "default").set("/auth", json!({}));
    let gateway = Gateway::with(keyed).start().await;
    let right = |id: &str| json!({ "api_id": id, "api_name": id, "versions": ["Default"] });
    let gold = json!({ "id": "gold", "org_id": "default", "rate": 7, "per": 60, "quota_max": 5, "quota_renewal_rate": 3600,
        "access_rights": { "key": right("key"), "plain": right("plain") }, "tags": ["vip"] });
    assert_eq!(send(&gateway, "POST", "/tyk/policies", &gold).await.status(), 200);
    send(&gateway, "POST", "/tyk/keys/k-pol", &key(json!({ "apply_policies": ["gold"], "quota_renewal_rate": 9 })))
        .await;
    assert_eq!(gateway.get("/key/1").header("authorization", "defaultk-pol").send().await.status(), 200);

    let mut shown = gateway.manage("GET", "/tyk/keys/defaultk-pol").send().await.json();
    for place in ["", "/access_rights/key/limit", "/access_rights/plain/limit"] {
        let fields = shown.pointer_mut(place).and_then(Value::as_object_mut).expect("an object");
        assert!(fields.remove("quota_renews").is_some_and(|renews| renews.as_i64() > Some(0)), "{place}");
    }
    let fields = shown.as_object_mut().expect("an object");
    assert!(fields.remove("date_created").is_some() && fields.remove("last_updated").is_some());
    let limit = json!({ "rate": 7, "per": 60, "quota_max": 5, "quota_remaining": 4, "quota_renewal_rate": 3600 });
    let limited = |id: &str| {
        let mut right = right(id);
        right["limit"] = limit.clone();
        right
    };
    let expected = json!({ "access_rights": { "key": limited("key"), "plain": limited("plain") }, "org_id": "default",
        "apply_policies": ["gold"], "tags": ["vip"], "rate": 7, "per": 60, "quota_max": 5, "quota_remaining": 4,
        "quota_renewal_rate": 3600 });
    assert_eq!(shown, expected);

    // What is kept is the key's own, and what policies say of it is not.
    let stored = gateway.manage("GET", "/tyk/keys/defaultk-pol?stored=1").send().await.json();
    assert_eq!(
        (&stored["rate"], &stored["quota_renewal_rate"], &stored["tags"]),
        (&json!(1000), &json!(9), &Value::Null)
    );
    // Policies that cannot be put onto it leave it as it is kept.
    assert_eq!(gateway.manage("DELETE", "/tyk/policies/gold").send().await.status(), 200);
    let shown = gateway.manage("GET", "/tyk/keys/defaultk-pol").send().await.json();
    assert_eq!((&shown["rate"], &shown["apply_policies"]), (&json!(1000), &json!(["gold"])));
}

#[tokio::test]
async fn a_key_that_could_not_be_meant_is_refused() {
    let gateway = gateway().await;
    let no_rights = error("Failed to create key, keys must have at least one Access Rights record set.");
    for (method, path) in [("POST", "/tyk/keys/create"), ("POST", "/tyk/keys/abc"), ("PUT", "/tyk/keys/abc")] {
        check(&send(&gateway, method, path, &json!({ "org_id": "default" })).await, 400, &no_rights);
        let past = error("`expires` is in the past");
        check(&send(&gateway, method, path, &key(json!({ "expires": 1 }))).await, 400, &past);
        for (body, reason) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "`record` is not an object"),
            (r#"{"rate":"it's"}"#, "`rate` is not a number"),
            (r#"{"access_rights":{"a":1}}"#, "`access_rights` is not an object"),
        ] {
            let reply = gateway.manage(method, path).body(body).send().await;
            let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
            assert_eq!(reply.status(), 400, "{body}");
            assert!(message.starts_with("Request malformed: ") && message.contains(reason), "{body}: {message}");
        }
        let reply = send(&gateway, method, path, &key(json!({ "rate": 1, "per": 0 }))).await;
        assert_eq!(reply.status(), 400, "{}", reply.text());
    }
    assert_eq!(send(&gateway, "POST", "/tyk/keys/a", &key(json!({ "org_id": "" }))).await.status(), 400);
    assert_eq!(send(&gateway, "POST", "/tyk/keys/abc?hashed=true", &key(json!({}))).await.status(), 400);
    check(&gateway.manage("GET", "/tyk/keys").send().await, 200, &json!({ "keys": [] }));
    // Rights to an API that is not there yet, and policies alone, are fine.
    let rights = json!({ "access_rights": { "later": { "api_id": "later" } } });
    assert_eq!(send(&gateway, "POST", "/tyk/keys/abc", &key(rights)).await.status(), 200);
    let policies = json!({ "apply_policies": ["gold"], "access_rights": {} });
    assert_eq!(send(&gateway, "POST", "/tyk/keys/abd", &key(policies)).await.status(), 200);
}

#[tokio::test]
async fn master_keys_are_made_where_they_are_allowed() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/control/allow_master_keys", true);
    let gateway = gateway.start().await;
    assert_eq!(send(&gateway, "POST", "/tyk/keys/create", &json!({})).await.status(), 200);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/control/body_bytes_max", 2_000);
    let gateway = gateway.set("/store/record_bytes_max", 1_024).start().await;
    let large = key(json!({ "alias": "a".repeat(3_000) }));
    let too_large = error("Request is too large");
    check(&send(&gateway, "POST", "/tyk/keys/abc", &large).await, 413, &too_large);
    check(&send(&gateway, "POST", "/tyk/policies", &large).await, 413, &too_large);
    // Without its length it is found out on the way.
    let pieces = gateway.manage("POST", "/tyk/keys/abc").pieces([" "; 3_000], &[]);
    check(&pieces.send().await, 413, &too_large);
    assert!((gateway.metric("stile_control_bodies_too_large_total", &[]) - 3.0).abs() < 0.1);
    // What is allowed comes through.
    let alias = "a".repeat(700);
    assert_eq!(send(&gateway, "POST", "/tyk/keys/abc", &key(json!({ "alias": alias }))).await.status(), 200);
    assert_eq!(gateway.manage("GET", "/tyk/keys/defaultabc").send().await.json()["alias"], json!(alias));
    // What fits into a request may still be more than a record.
    let reply = send(&gateway, "POST", "/tyk/keys/abc", &key(json!({ "alias": "a".repeat(1_200) }))).await;
    check(&reply, 413, &error("record is larger than `record_bytes_max`"));
}

#[tokio::test]
async fn lists_come_in_parts() {
    let gateway = gateway().await;
    for name in 0..5 {
        send(&gateway, "POST", &format!("/tyk/keys/key-{name}"), &key(json!({}))).await;
        send(&gateway, "POST", "/tyk/policies", &json!({ "id": format!("a policy/{name}"), "name": "p" })).await;
    }
    for (path, list) in [("/tyk/keys", "/keys"), ("/tyk/policies", "")] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for parts in 1.. {
            let reply = gateway.manage("GET", &format!("{path}?limit=2{cursor}")).send().await;
            let part = reply.json().pointer(list).and_then(Value::as_array).expect("a list").clone();
            assert!(part.len() <= 2);
            seen.extend(part.iter().map(Value::to_string));
            match reply.header("x-stile-next") {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
            assert!(parts < 5, "it ends");
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5, "{path}");
        for bad in ["?limit=0", "?limit=100000", "?limit=x"] {
            assert_eq!(gateway.manage("GET", &format!("{path}{bad}")).send().await.status(), 400);
        }
    }
}

#[tokio::test]
async fn policies_are_put_shown_and_deleted() {
    let gateway = gateway().await;
    check(&gateway.manage("GET", "/tyk/policies").send().await, 200, &json!([]));
    check(&gateway.manage("GET", "/tyk/policies/gold").send().await, 404, &error("Policy not found"));
    let gold = json!({
        "id": "gold", "org_id": "default", "active": true, "state": "active", "name": "gold", "rate": 7, "per": 60,
        "quota_max": 5, "quota_renewal_rate": 3600, "tags": ["vip"],
        "access_rights": { "orders": { "api_id": "orders", "api_name": "orders", "versions": ["Default"] } },
    });
    let added = json!({ "key": "gold", "status": "ok", "action": "added" });
    check(&send(&gateway, "POST", "/tyk/policies", &gold).await, 200, &added);
    let modified = json!({ "key": "gold", "status": "ok", "action": "modified" });
    check(&send(&gateway, "PUT", "/tyk/policies/gold", &gold).await, 200, &modified);
    let shown = gateway.manage("GET", "/tyk/policies/gold").send().await.json();
    for (name, value) in gold.as_object().expect("an object") {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!(gateway.manage("GET", "/tyk/policies").send().await.json(), json!([shown]));

    let mismatch = error("Request ID does not match that in policy! For Update operations these must match.");
    check(&send(&gateway, "PUT", "/tyk/policies/silver", &gold).await, 400, &mismatch);
    assert_eq!(send(&gateway, "POST", "/tyk/policies", &json!({ "rate": "x" })).await.status(), 400);
    let made = send(&gateway, "POST", "/tyk/policies", &json!({ "name": "nameless" })).await.json();
    assert_eq!(made["key"].as_str().map(str::len), Some(64));

    let deleted = json!({ "key": "gold", "status": "ok", "action": "deleted" });
    check(&gateway.manage("DELETE", "/tyk/policies/gold").send().await, 200, &deleted);
    check(&gateway.manage("DELETE", "/tyk/policies/gold").send().await, 404, &error("Policy not found"));
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let gateway = gateway().await;
    for (method, path, allowed) in [
        ("PATCH", "/tyk/keys/abc", "GET, POST, PUT, DELETE"),
        ("GET", "/tyk/keys/create", "POST"),
        ("DELETE", "/tyk/keys", "GET, POST"),
        ("PUT", "/tyk/policies", "GET, POST"),
    ] {
        let reply = gateway.manage(method, path).send().await;
        check(&reply, 405, &error("Method not supported"));
        assert_eq!(reply.header("allow"), Some(allowed));
    }
    assert_eq!(gateway.manage("GET", "/tyk/nowhere").send().await.status(), 404);
    assert_eq!(gateway.manage("GET", "/tyk/keys/%ff").send().await.status(), 400);
    assert_eq!(gateway.manage("POST", "/live").send().await.status(), 405);
}

#[tokio::test]
async fn keys_outlive_the_gateway_in_a_file_that_one_has_open() {
    let (upstream, folder) = (Upstream::start(), Folder::new());
    let path = folder.path().join("data/keys.redb");
    let build = || {
        let store = json!({ "kind": "embedded", "embedded": { "path": path } });
        Gateway::with(api("orders").upstream(&upstream)).set("/store", store)
    };
    let gateway = build().start().await;
    assert_eq!(send(&gateway, "POST", "/tyk/keys/bob", &key(json!({ "alias": "bob" }))).await.status(), 200);
    assert_eq!(send(&gateway, "POST", "/tyk/policies", &json!({ "id": "gold" })).await.status(), 200);

    let problem = build().try_start().await.err().expect("one has the file open");
    assert!(problem.contains("keys.redb") && problem.contains("hint: is another gateway running?"), "{problem}");
    assert_eq!(problem.matches("cannot be opened").count(), 1, "{problem}");

    gateway.drain().await;
    let gateway = build().start().await;
    assert_eq!(gateway.manage("GET", "/tyk/keys/defaultbob").send().await.json()["alias"], "bob");
    assert_eq!(gateway.manage("GET", "/tyk/policies/gold").send().await.status(), 200);
}

#[tokio::test]
async fn a_large_key_comes_through_whole() {
    let gateway = gateway().await;
    let notes = "n".repeat(60_000);
    let large = key(json!({ "meta_data": { "notes": notes } }));
    assert_eq!(send(&gateway, "POST", "/tyk/keys/abc", &large).await.status(), 200);
    let shown = gateway.manage("GET", "/tyk/keys/defaultabc").send().await.json();
    assert_eq!(shown["meta_data"]["notes"], json!(notes));
}

#[tokio::test]
async fn a_new_key_ends_when_its_policies_say_so() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_795_395_600_000));
    let keyed = api("orders").upstream(&upstream).set("/organisation", "default").set("/auth", json!({}));
    let gateway = Gateway::with(keyed).clock(&clock).start().await;
    let policy = |id: &str, seconds: u32| json!({ "id": id, "org_id": "default", "key_expires_in": seconds, "access_rights": { "orders": {} } });
    for policy in [policy("trial", 2), policy("month", 30)] {
        assert_eq!(send(&gateway, "POST", "/tyk/policies", &policy).await.status(), 200);
    }
    let body = |policies: &[&str]| json!({ "org_id": "default", "apply_policies": policies, "rate": 100, "per": 1 });
    let expires =
        async |name: &str| gateway.manage("GET", &format!("/tyk/keys/{name}")).send().await.json()["expires"].clone();

    let made = send(&gateway, "POST", "/tyk/keys/create", &body(&["month", "trial"])).await.json()["key"].clone();
    let made = made.as_str().expect("a token");
    send(&gateway, "POST", "/tyk/keys/own", &body(&["month"])).await;
    let mut sooner = body(&["month"]);
    sooner["expires"] = json!(1_795_395_600 + 10);
    send(&gateway, "POST", "/tyk/keys/sooner", &sooner).await;
    assert_eq!(expires(made).await, 1_795_395_602);
    assert_eq!(expires("defaultown").await, 1_795_395_630);
    assert_eq!(expires("defaultsooner").await, 1_795_395_610);

    let call = async || gateway.get("/orders/").header("authorization", made).send().await.status();
    assert_eq!(call().await, 200);
    clock.advance(std::time::Duration::from_secs(3));
    assert_eq!(call().await, 401);
    // A key that is there has no trial to begin.
    send(&gateway, "PUT", "/tyk/keys/defaultown", &body(&["month"])).await;
    assert_eq!(expires("defaultown").await, Value::Null);
}

#[tokio::test]
async fn a_quota_is_reset_under_every_name_that_it_is_counted_by() {
    let upstream = Upstream::start();
    let keyed = |id: &str| api(id).upstream(&upstream).set("/organisation", "default").set("/auth", json!({}));
    let quota = json!({ "requests": 2, "renewal_seconds": 3600 });
    let policies = json!([
        { "id": "perapi", "organisation": "default", "partitions": ["per_api"], "access": { "orders": { "quota": quota } } },
        { "id": "scoped", "organisation": "default", "quota": quota, "access": { "orders": { "scope": "some" } } },
    ]);
    let gateway = Gateway::with(keyed("orders")).and(keyed("other")).set("/policies", policies).start().await;
    let own = |id: &str| json!({ "api_id": id, "limit": { "rate": 100, "per": 1 } });
    let own = json!({ "quota_max": 2, "quota_renewal_rate": 3600,
        "access_rights": { "orders": own("orders"), "other": own("other") } });
    for (name, body) in [
        ("own", key(own)),
        ("perapi", key(json!({ "apply_policies": ["perapi"] }))),
        ("scoped", key(json!({ "apply_policies": ["scoped"] }))),
    ] {
        let path = format!("/tyk/keys/default{name}");
        let call = async || {
            let call = gateway.get("/orders/").header("authorization", format!("default{name}"));
            call.send().await.status()
        };
        assert_eq!(send(&gateway, "POST", &path, &body).await.status(), 200);
        assert_eq!([call().await, call().await, call().await], [200, 200, 403], "{name}");
        let shown = gateway.manage("GET", &path).send().await.json();
        let left = &shown.pointer("/access_rights/orders/limit/quota_remaining").unwrap_or(&shown["quota_remaining"]);
        assert_eq!(left.as_i64().unwrap_or_default(), 0, "{name}: {shown}");

        assert_eq!(send(&gateway, "PUT", &path, &body).await.status(), 200);
        assert_eq!([call().await, call().await, call().await], [200, 200, 403], "{name} after PUT");
        assert_eq!(gateway.manage("DELETE", &path).send().await.status(), 200);
        assert_eq!(send(&gateway, "POST", &path, &body).await.status(), 200);
        assert_eq!(call().await, 200, "{name} after DELETE");
    }
}

#[tokio::test]
async fn what_would_allow_more_than_it_says_is_refused() {
    let gateway = gateway().await;
    let right = |fields: Value| json!({ "access_rights": { "orders": fields } });
    let rights = [
        (
            right(json!({ "allowed_types": [{ "name": "Query", "fields": ["a"] }] })),
            "`access_rights.orders.allowed_types`",
        ),
        (right(json!({ "allowed_urls": [{ "methods": ["GET"] }] })), "`access_rights.orders.allowed_urls[0].url`"),
        (
            right(
                json!({ "endpoints": [{ "path": "/a(", "methods": [{ "name": "GET", "limit": { "rate": 1, "per": 1 } }] }] }),
            ),
            "`access_rights.orders.endpoints`",
        ),
    ];
    for (fields, place) in &rights {
        let mut policy = fields.clone();
        policy["id"] = json!("p");
        for (path, body) in [("/tyk/policies", policy), ("/tyk/keys/abc", key(fields.clone()))] {
            let reply = send(&gateway, "POST", path, &body).await;
            let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
            assert!(reply.status() == 400 && message.contains(place), "{path}: {message}");
        }
    }
    for (fields, place) in [
        (json!({ "hmac_enabled": true }), "`hmac_enabled`"),
        (json!({ "partitions": { "per_api": true, "quota": true } }), "`partitions`"),
        (json!({ "active": "false" }), "`active` is not true or false"),
    ] {
        let mut policy = right(json!({}));
        policy["id"] = json!("p");
        policy.as_object_mut().expect("an object").extend(fields.as_object().cloned().expect("an object"));
        let reply = send(&gateway, "POST", "/tyk/policies", &policy).await;
        let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(reply.status() == 400 && message.contains(place), "{message}");
    }
    assert_eq!(gateway.manage("GET", "/tyk/policies").send().await.json(), json!([]));
    // A key under a short hash of Tyk's could never be used.
    let short = send(&gateway, "POST", "/tyk/keys/deadbeef?hashed=true", &key(json!({}))).await;
    assert_eq!(short.status(), 400, "{}", short.text());
}
