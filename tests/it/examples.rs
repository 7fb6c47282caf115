//! The example plugins as an operator uses them.

use serde_json::{Value, json};
use stile::model::key::KeyHash;
use stile::model::session::Session;
use stile::store::Life;
use stile_tests::{Answer, Gateway, Upstream, api, guest, plugin, workspace};

#[tokio::test]
async fn headers_sets_adds_and_removes() {
    let upstream = Upstream::start();
    let config = json!({ "remove": ["x-user"], "set": { "x-gateway": "stile" }, "add": { "x-tag": "external" } });
    let definition = api("orders").upstream(&upstream).pre(plugin("headers").config(config));
    let gateway = Gateway::with(definition).start().await;

    let call = gateway.get("/orders/1").header("x-user", "root").header("x-gateway", "mine").header("x-tag", "a");
    call.send().await;

    let sent = upstream.last();
    assert_eq!(sent.header("x-user"), None);
    assert_eq!(sent.headers("x-gateway"), ["stile"]);
    assert_eq!(sent.headers("x-tag"), ["a", "external"]);
}

#[tokio::test]
async fn ip_filter_goes_by_the_address_that_trusted_proxies_tell() {
    let upstream = Upstream::start();
    let config = json!({ "allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.6.6.6"] });
    let definition = api("orders").upstream(&upstream).pre(plugin("ip-filter").config(config));
    let gateway = Gateway::with(definition).set("/trusted_proxies", json!(["127.0.0.1"])).start().await;

    for (address, status) in [("10.1.2.3", 200), ("2001:db8::1", 200), ("10.6.6.6", 403), ("11.0.0.1", 403)] {
        let reply = gateway.get("/orders/1").header("x-forwarded-for", address).send().await;
        assert_eq!(reply.status(), status, "{address}");
    }
    assert_eq!(gateway.get("/orders/1").send().await.status(), 403);
}

#[tokio::test]
async fn rate_limit_counts_each_address_over_all_workers_and_apart_for_each_api() {
    let upstream = Upstream::start();
    let limited = |id| {
        let config = json!({ "requests": 3, "seconds": 3600 });
        api(id).upstream(&upstream).pre(plugin("rate-limit").config(config))
    };
    let gateway = Gateway::with(limited("orders")).and(limited("users")).grant("rate-limit", ["kv", "metrics"]);
    let gateway = gateway.set("/workers", 2).set("/trusted_proxies", json!(["127.0.0.1"])).start().await;

    let call = |api: &str, from: &str| gateway.get(&format!("/{api}/1")).header("x-forwarded-for", from);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let reply = call("orders", "10.0.0.1").send().await;
        assert_eq!(reply.header("retry-after").is_some(), reply.status() == 429);
        statuses.push(reply.status());
    }

    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = gateway.metric("stile_plugin_own_limited_total", &[("api", "orders"), ("plugin", "rate-limit")]);
    assert_eq!(refused, 2.0, "{}", gateway.page().counted("stile_plugin_own_limited"));
    assert_eq!(call("orders", "10.0.0.2").send().await.status(), 200);
    assert_eq!(call("users", "10.0.0.1").send().await.status(), 200);
}

/// Of the token `test`.
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn tokens() -> Value {
    json!({ "tokens": [{ "token_sha256": DIGEST, "alias": "ana", "metadata": { "plan": "gold" }, "tags": ["internal"] }] })
}

#[tokio::test]
async fn token_auth_lets_in_who_it_knows_and_the_token_goes_no_further() {
    let upstream = Upstream::start();
    let definition = api("orders").recorded().upstream(&upstream).auth(plugin("token-auth").config(tokens()));
    let gateway = Gateway::with(definition.set("/auth/strip_credential", true)).recording().start().await;

    let reply = gateway.get("/orders/1").header("authorization", "Bearer test").send().await;
    assert_eq!(reply.status(), 200);
    assert_eq!(upstream.last().header("authorization"), None);
    let record = &gateway.records(1).await[0];
    assert_eq!((&record["alias"], &record["tags"]), (&json!("ana"), &json!(["internal"])));

    let reply = gateway.get("/orders/1").send().await;
    assert_eq!((reply.status(), reply.header("www-authenticate")), (401, Some("Bearer")));
    let reply = gateway.get("/orders/1").header("authorization", "Bearer tset").send().await;
    assert_eq!(reply.status(), 403);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn metadata_gate_reads_the_session_that_authentication_made() {
    let upstream = Upstream::start();
    let gated = |id, plan| {
        let gate = plugin("metadata-gate").config(json!({ "require": { "plan": plan }, "message": "gold only" }));
        api(id).upstream(&upstream).auth(plugin("token-auth").config(tokens())).post_auth(gate)
    };
    let keyless = api("open").upstream(&upstream);
    let keyless = keyless.post_auth(plugin("metadata-gate").config(json!({ "require": { "plan": "gold" } })));
    let gateway = Gateway::with(gated("gold", "gold")).and(gated("platinum", "platinum")).and(keyless).start().await;

    let call = |path| gateway.get(path).header("authorization", "test");
    assert_eq!(call("/gold/1").send().await.status(), 200);
    let reply = call("/platinum/1").send().await;
    assert_eq!((reply.status(), reply.json()), (403, json!({ "error": "gold only" })));
    assert_eq!(call("/open/1").send().await.status(), 403);
}

#[tokio::test]
async fn virtual_endpoint_answers_without_the_upstream() {
    let upstream = Upstream::start();
    let config = json!({ "status": 203, "body": { "id": "{id}", "by": "{api}" } });
    let definition = api("orders").upstream(&upstream).set("/name", "Orders");
    let definition = definition.endpoint("GET", "/users/{id}", plugin("virtual-endpoint").config(config));
    let gateway = Gateway::with(definition).start().await;

    let reply = gateway.get("/orders/users/a%20b").send().await;
    assert_eq!((reply.status(), reply.json()), (203, json!({ "id": "a b", "by": "Orders" })));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(upstream.calls(), 0);

    assert_eq!(gateway.post("/orders/users/1", "").send().await.text(), "upstream");
    assert_eq!(gateway.get("/orders/teams/1").send().await.text(), "upstream");
}

#[tokio::test]
async fn json_rewrite_changes_what_the_upstream_reads() {
    let upstream = Upstream::start();
    let config =
        json!({ "remove": ["/internal"], "rename": { "/customer": "/buyer" }, "set": { "/source": "gateway" } });
    let definition = api("orders").upstream(&upstream).post(plugin("json-rewrite").config(config));
    let gateway = Gateway::with(definition).start().await;
    let call = |body: &'static str| gateway.post("/orders/1", body).header("content-type", "application/json");

    call("{\"internal\":1,\"customer\":\"ana\"}").send().await;
    let sent = upstream.last();
    let body: Value = serde_json::from_slice(&sent.body).expect("JSON");
    assert_eq!(body, json!({ "buyer": "ana", "source": "gateway" }));
    assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));

    assert_eq!(call("{").send().await.status(), 400);
    let plain = gateway.post("/orders/1", "{").header("content-type", "text/plain");
    assert_eq!(plain.send().await.status(), 200);
    let large = gateway.post("/orders/1", vec![b' '; (1 << 20) + 1]).header("content-type", "application/json");
    assert_eq!(large.send().await.status(), 413);
}

#[tokio::test]
async fn response_hardening_mends_headers_and_redacts_bodies() {
    let upstream = Upstream::answering(|seen| {
        let body =
            if seen.target.ends_with("broken") { "{" } else { "{\"user\":{\"password\":\"p\",\"name\":\"ana\"}}" };
        let answer =
            Answer::new(200).header("server", "up/1.0").header("set-cookie", "a=1").header("set-cookie", "b=2; Secure");
        answer.header("content-type", "application/json").body(body)
    });
    let hardening = |function| {
        plugin("response-hardening").function(function).config(json!({ "redact": ["password"], "cookies": ["edge=1"] }))
    };
    let definition = api("orders").upstream(&upstream).response(hardening("headers")).response(hardening("redact"));
    let gateway = Gateway::with(definition).start().await;

    let reply = gateway.get("/orders/1").send().await;

    assert_eq!(reply.json(), json!({ "user": { "password": "***", "name": "ana" } }));
    assert_eq!(reply.header("content-length"), Some(reply.body().len().to_string().as_str()));
    assert_eq!((reply.header("server"), reply.header("x-frame-options")), (None, Some("DENY")));
    let cookies = [
        "a=1; Secure; HttpOnly; SameSite=Lax",
        "b=2; Secure; HttpOnly; SameSite=Lax",
        "edge=1; Secure; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(reply.headers("set-cookie"), cookies);

    let reply = gateway.get("/orders/broken").send().await;
    assert_eq!(reply.status(), 500, "what cannot be redacted does not leave");
    assert!(!reply.text().contains("expected"), "{}", reply.text());
}

#[tokio::test]
async fn suspend_turns_away_the_callers_of_a_reported_key() {
    let upstream = Upstream::start();
    let orders =
        api("orders").upstream(&upstream).set("/auth", json!({})).post_auth(plugin("suspend").function("turn_away"));
    let report = plugin("suspend").function("report");
    let operators = api("keys").upstream(&upstream).set("/auth", json!({})).endpoint("POST", "/suspensions", report);
    let gateway = Gateway::with(orders).and(operators).grant("suspend", ["sessions"]);
    let gateway = gateway.limits("suspend", json!({ "deadline_ms": 20_000 })).start().await;
    let operator = Session { tags: vec!["may-suspend".to_owned()], ..Session::default() };
    for (token, session) in [("operator", operator), ("ana-token", Session::default())] {
        let kept = gateway.store().create_session(&KeyHash::of(token), &session, Life::Forever).await;
        assert_eq!(kept, Ok(true));
    }
    let report = async |by: &str, body: Value| {
        gateway.post("/keys/suspensions", body.to_string()).header("authorization", by).send().await.status()
    };
    let orders = async || gateway.get("/orders/1").header("authorization", "ana-token").send().await.status();
    let found = json!({ "token": "ana-token", "reason": "found in a public repository" });

    assert_eq!((report("ana-token", found.clone()).await, orders().await), (403, 200));
    assert_eq!((report("operator", found).await, orders().await), (204, 403));
    assert_eq!((report("operator", json!({ "token": "ana-token" })).await, orders().await), (204, 200));
    assert_eq!(report("operator", json!({ "token": "nobody", "reason": "" })).await, 404);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn mask_keeps_personal_data_out_of_the_records() {
    let upstream = Upstream::answering(|_| {
        Answer::new(200).header("content-type", "application/json").body("{\"password\":\"of the answer\"}")
    });
    let definition = api("orders").upstream(&upstream).detailed().analytics("mask");
    let gateway = Gateway::with(definition).recording().start().await;

    let call =
        gateway.post("/orders/ana@example.com?password=of-the-query", "{\"password\":\"of the request\",\"n\":1}");
    call.header("authorization", "Bearer secret").header("content-type", "application/json").send().await;

    let record = gateway.records(1).await[0].to_string();
    for secret in ["ana@example.com", "of-the-query", "of the request", "of the answer", "Bearer secret"] {
        assert!(!record.contains(secret), "{secret} in {record}");
    }
    assert_eq!(upstream.last().target, "/orders/ana@example.com?password=of-the-query");
}

#[tokio::test]
async fn route_sends_callers_to_another_host_or_another_api_by_their_metadata() {
    let upstreams = ["own", "us", "beta"].map(|name| Upstream::answering(move |_| Answer::new(200).body(name)));
    let [own, us, beta] = &upstreams;
    let gateway = Gateway::with(api("orders").upstream(own)).start().await;
    gateway.rename_over("stile.yaml", as_at_the_head_of_route(&upstreams));
    let reply = gateway.manage("POST", "/stile/reload").send().await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    for region in ["us", "beta", "eu"] {
        let session = Session { metadata: [("region".to_owned(), region.into())].into(), ..Session::default() };
        let kept =
            gateway.store().create_session(&KeyHash::of(&format!("{region}-token")), &session, Life::Forever).await;
        assert_eq!(kept, Ok(true));
    }
    let call = async |region: &str| {
        let call = gateway.get("/orders/1?a=b").header("authorization", format!("{region}-token"));
        let reply = call.send().await;
        (reply.status(), reply.text().to_owned())
    };

    for (region, name) in [("us", "us"), ("beta", "beta"), ("eu", "own")] {
        assert_eq!(call(region).await, (200, name.to_owned()), "{region}");
    }

    assert_eq!(us.last().target, "/orders/1?a=b");
    assert_eq!(beta.last().target, "/beta/1?a=b");
    assert_eq!(upstreams.each_ref().map(Upstream::calls), [1, 1, 1]);
}

/// The configuration that `route` tells at its head, with these servers.
fn as_at_the_head_of_route([own, us, beta]: &[Upstream; 3]) -> String {
    let source = std::fs::read_to_string(workspace().join("example-plugins/route/src/lib.rs")).expect("it is there");
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let head: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let fences: Vec<&[&str]> = head.split(|line| line.starts_with("```")).skip(1).step_by(2).collect();
    let [plugins, hooks] = fences[..] else { panic!("two parts: {fences:?}") };
    let indented: String = hooks.iter().map(|line| format!("  {line}\n")).collect();
    let api = |id: &str, path: &str, upstream: &Upstream| {
        format!(
            "- id: {id}\n  listen: {{ path: {path} }}\n  upstream: {{ url: \"{}\" }}\n  auth: {{}}\n",
            upstream.url()
        )
    };
    let apis = [api("orders-beta", "/beta/", beta), api("orders", "/orders/", own)].concat();
    format!("{}\napis:\n{apis}{indented}", plugins.join("\n"))
        .replace("plugins/route.wasm", guest("route").to_str().expect("our names are text"))
        .replace("https://orders.us.example.com", &us.url())
}

/// An API that answers with what it calls at the same time: `users` and `orders`.
fn overview() -> stile_tests::Api {
    let parts = json!({
        "customer": { "api": "users", "path": "/{id}" },
        "orders": { "api": "orders", "path": "/?customer={id}" },
    });
    let aggregate = plugin("aggregate").config(json!({ "parts": parts, "timeout_ms": 15_000 }));
    api("overview").upstream_url("http://127.0.0.1:1").endpoint("GET", "/customers/{id}", aggregate)
}

async fn aggregating(users: &Upstream, orders: &Upstream) -> Gateway {
    let keyed = |id: &str, upstream: &Upstream| api(id).strip().upstream(upstream).set("/auth", json!({}));
    let gateway = Gateway::with(overview()).and(keyed("users", users)).and(keyed("orders", orders));
    let gateway =
        gateway.grant("aggregate", ["apis"]).plugin("aggregate", "apis", json!({ "allow": ["users", "orders"] }));
    let gateway =
        gateway.limits("aggregate", json!({ "deadline_ms": 20_000, "api_time_max_ms": 15_000 })).start().await;
    let kept = gateway.store().create_session(&KeyHash::of("ana-token"), &Session::default(), Life::Forever).await;
    assert_eq!(kept, Ok(true));
    gateway
}

#[tokio::test]
async fn aggregate_asks_two_apis_at_the_same_time() {
    // Neither answers before the other one is asked.
    let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    let waiting = |body: &'static str| {
        let both = both.clone();
        Upstream::answering(move |_| {
            both.wait();
            Answer::new(200).body(body)
        })
    };
    let (users, orders) = (waiting("{\"name\":\"ana\"}"), waiting("[1,2]"));
    let gateway = aggregating(&users, &orders).await;

    let reply = gateway.get("/overview/customers/a%20b").header("authorization", "ana-token").send().await;

    assert_eq!((reply.status(), reply.json()), (200, json!({ "customer": { "name": "ana" }, "orders": [1, 2] })));
    assert_eq!((users.last().target.as_str(), orders.last().target.as_str()), ("/a%20b", "/?customer=a%20b"));
}

#[tokio::test]
async fn aggregate_answers_with_what_there_is() {
    let (users, orders) =
        (Upstream::answering(|_| Answer::new(500)), Upstream::answering(|_| Answer::new(200).body("[]")));
    let gateway = aggregating(&users, &orders).await;
    let ask = || gateway.get("/overview/customers/7");

    let reply = ask().header("authorization", "ana-token").send().await;
    let partial = json!({ "customer": null, "orders": [], "errors": { "customer": "answered 500" } });
    assert_eq!((reply.status(), reply.json()), (200, partial));

    let reply = ask().send().await;
    let errors = json!({ "customer": "answered 401", "orders": "answered 401" });
    assert_eq!((reply.status(), reply.json()), (502, json!({ "customer": null, "orders": null, "errors": errors })));
    assert_eq!((users.calls(), orders.calls()), (1, 1), "each API decides for itself who may call it");
}
