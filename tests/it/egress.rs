//! Requests that plugins send: with whose libraries, over which connections, and what ends them. What plugins try that
//! wish us ill is in the corpus, `tests/plugins/corpus`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stile::model::gateway::{AccessLog, Log, LogFormat};
use stile_tests::{Answer, Api, Builder, Folder, Gateway, SelfSigned, Upstream, api, log_of, plugin};

const OUTGOING: &str = "stile_plugin_outgoing_requests_total";
const SECRET: &str = "s3cr3t-w0rds";

/// An API with the plugin of another library, which posts to this URL.
fn asking(url: &str) -> Builder {
    let definition =
        api("orders").pre(plugin("with-waki").config(json!({ "url": url }))).upstream_url("http://127.0.0.1:1");
    let builder = Gateway::with(definition).grant("with-waki", ["outgoing-http"]);
    builder.plugin("with-waki", "outgoing_http", json!({ "allow": [url.trim_end_matches("/asked")] }))
}

#[tokio::test]
async fn a_library_for_wasi_http_works_and_its_connection_is_used_again() {
    let server = Upstream::answering(|_| Answer::new(201).pieces(["an ", "answer"], None));
    let gateway = asking(&format!("{}/asked", server.url())).start().await;

    for _ in 0..5 {
        let reply = gateway.get("/orders/1").send().await;
        assert_eq!((reply.status(), reply.text()), (201, "an answer"));
    }

    let seen = server.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/asked"));
    assert_eq!((seen.header("x-from"), &seen.body[..]), (Some("waki"), &b"hello"[..]));
    assert_eq!(gateway.metric(OUTGOING, &[("outcome", "ok"), ("api", "orders"), ("plugin", "with-waki")]), 5.0);
    assert_eq!(gateway.metric("stile_upstream_connections_opened_total", &[]), 1.0);
    assert_eq!(gateway.metric("stile_upstream_connections_reused_total", &[]), 4.0);
}

#[tokio::test]
async fn a_certificate_is_checked_with_the_operator_s_authorities() {
    let (upstream, certificate) = (Upstream::start(), SelfSigned::new());
    let server = Gateway::with(api("inner").upstream(&upstream)).tls(&certificate).start().await;
    let port = server.address.port();
    // The certificate is for `localhost`.
    let folder = Folder::new();
    SelfSigned::new().write(folder.path());
    let (ours, others) = (server.folder(), folder.path());
    for (host, authorities, status) in [("localhost", ours, 200), ("other.test", ours, 500), ("localhost", others, 500)]
    {
        let url = format!("https://{host}:{port}/inner/asked");
        let allow = json!([{ "url": format!("https://{host}:{port}"), "private": true }]);
        let outgoing = json!({ "allow": allow, "ca_file": authorities.join("cert.pem") });
        let gateway = asking(&url).plugin("with-waki", "outgoing_http", outgoing);
        let gateway = gateway.resolving(|_| vec![IpAddr::from([127, 0, 0, 1])]).start().await;

        let reply = gateway.get("/orders/1").send().await;

        assert_eq!(reply.status(), status, "{host} {authorities:?}: {}", reply.text());
        let outcome = if status == 200 { "ok" } else { "tls" };
        assert_eq!(gateway.metric(OUTGOING, &[("outcome", outcome)]), 1.0, "{host} {authorities:?}");
    }
}

#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_that_is_connected_to() {
    let server = Upstream::start();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    // A name that is good whenever it is looked at for the first time, and this machine from then on.
    let names = move |_: &str| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => vec![IpAddr::from([203, 0, 114, 1])],
        _ => vec![IpAddr::from([127, 0, 0, 1])],
    };
    let url = format!("{}/asked", server.url()).replace("127.0.0.1", "rebind.test");
    let limits = json!({ "outgoing_time_max_ms": 200 });
    let gateway = asking(&url).limits("with-waki", limits).resolving(names).start().await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 500);

    assert_eq!(asked.load(Ordering::SeqCst), 1, "the name is asked once for a connection");
    assert_eq!(server.calls(), 0);
    assert_eq!(gateway.metric(OUTGOING, &[("outcome", "address")]), 0.0);
    let unreached = ["time", "connect"].map(|outcome| gateway.metric(OUTGOING, &[("outcome", outcome)]));
    assert_eq!(unreached.iter().sum::<f64>(), 1.0, "{}", gateway.page().counted(OUTGOING));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_plugin_s_request_along() {
    let server = Upstream::answering(|_| Answer::new(200).after(Duration::from_secs(60)));
    let gateway = asking(&format!("{}/asked", server.url()));
    let gateway = gateway.limits("with-waki", json!({ "deadline_ms": 60_000, "outgoing_time_max_ms": 60_000 }));
    let gateway = gateway.start().await;

    let call = tokio::spawn(gateway.get("/orders/1").send());
    while server.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();

    gateway.metric_becomes(OUTGOING, &[("outcome", "aborted")], 1.0).await;
    gateway.metric_becomes("stile_upstream_connections_open", &[], 0.0).await;
}

#[test]
fn a_request_that_is_refused_says_where_it_wanted_to_go() {
    let log = log_of("egress::child");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |outcome: &str| -> Vec<&Value> { lines.iter().filter(|line| line["outcome"] == outcome).collect() };

    let refused: Vec<_> = of("not_allowed").into_iter().map(|line| (&line["host"], &line["place"])).collect();
    let places = ["http://other.example:8080", "https://other.example"].map(Value::from);
    let host = Value::from("other.example");
    assert_eq!(refused, [(&host, &places[0]), (&host, &places[1])], "{log}");
    assert!(of("ok").iter().all(|line| line["host"] == "127.0.0.1" && line["place"].is_null()), "{log}");
    assert_eq!(of("ok").len(), 1, "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

/// A process of its own, because its log is the process's.
#[tokio::test]
#[ignore = "a test above runs it"]
async fn child() {
    let filter = "warn,stile::outgoing=debug".to_owned();
    let log = Log { format: LogFormat::Json, filter, access: AccessLog::Off };
    stile::telemetry::log::init(&log).expect("the filter is good");
    let server = Upstream::start();
    let listed = json!({ "allow": ["https://listed.example", server.url()] });
    for (place, status) in
        [("http://other.example:8080", 500), ("https://other.example", 500), (server.url().as_str(), 200)]
    {
        let url = format!("{place}/{SECRET}?token={SECRET}");
        let gateway = asking(&url).plugin("with-waki", "outgoing_http", listed.clone()).start().await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{place}");
    }
}

#[tokio::test]
async fn a_grant_that_is_missing_is_named_with_the_line_to_add() {
    let upstream = Upstream::start();
    let used = plugin("with-waki").config(json!({ "url": "http://a.test" }));
    let definition = api("orders").upstream(&upstream).pre(used);
    let gateway = Gateway::with(definition).try_start().await.expect("it starts without that API");
    let problems = gateway.problems();
    for text in [
        "`with-waki`: imports `wasi:http/",
        "add `outgoing-http` to `plugins.with-waki.grants` and where it may go to its `outgoing_http.allow`",
    ] {
        assert!(problems.contains(text), "{text}: {problems}");
    }
}

#[tokio::test]
async fn all_grants_that_are_missing_are_named_at_once() {
    let upstream = Upstream::start();
    let used = plugin("introspect").config(json!({ "url": "http://a.test", "client": "gateway" }));
    let definition = api("orders").upstream(&upstream).auth(used);
    let gateway = Gateway::with(definition).try_start().await.expect("it starts without that API");
    let problems = gateway.problems();
    for text in [
        "capability `secrets`, imports `wasi:http/",
        "which are not granted; if you trust it with them, add `secrets`, `outgoing-http` to `plugins.introspect.grants`",
        "`plugins.introspect.grants` and where they come from to its `secrets` and where it may go to its `outgoing_http.allow`",
    ] {
        assert!(problems.contains(text), "{text}: {problems}");
    }
}

/// A token server that knows one token, and one client with its secret.
fn token_server() -> Upstream {
    Upstream::answering(|seen| {
        // base64 of `gateway:` and the secret
        let is_client = seen.header("authorization") == Some("Basic Z2F0ZXdheTpzM2NyM3QtdzByZHM=");
        let is_token = seen.body.starts_with(b"token=good&");
        match (is_client, is_token) {
            (false, _) => Answer::new(401),
            (true, true) => Answer::new(200).body(r#"{"active":true,"sub":"ana","scope":"read"}"#),
            (true, false) => Answer::new(200).body(r#"{"active":false}"#),
        }
    })
}

fn introspecting(upstream: &Upstream, server: &Upstream) -> Api {
    let config = json!({ "url": format!("{}/introspect", server.url()), "client": "gateway" });
    let auth = json!({ "plugin": "introspect", "config": config, "id_extractor": { "from": "header" } });
    api("orders").upstream(upstream).recorded().auth(plugin("introspect")).set("/auth", auth)
}

#[tokio::test]
async fn introspect_asks_once_for_a_token_with_a_secret_that_it_never_sees() {
    let (upstream, server) = (Upstream::start(), token_server());
    let gateway = Gateway::with(introspecting(&upstream, &server)).grant("introspect", ["outgoing-http", "secrets"]);
    let gateway = gateway.plugin("introspect", "outgoing_http", json!({ "allow": [server.url()] }));
    let gateway =
        gateway.file("secret", SECRET).plugin("introspect", "secrets", json!({ "client": { "file": "secret" } }));
    let gateway = gateway.recording().start().await;

    for _ in 0..100 {
        let reply = gateway.get("/orders/1").header("authorization", "Bearer good").send().await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }

    assert_eq!(server.calls(), 1);
    assert_eq!(server.last().target, "/introspect");
    assert_eq!((upstream.calls(), gateway.metric("stile_plugin_calls_total", &[])), (100, 1.0));
    assert_eq!(gateway.records(100).await[99]["alias"], "ana");
    for _ in 0..3 {
        let reply = gateway.get("/orders/1").header("authorization", "Bearer bad").send().await;
        assert_eq!(reply.status(), 403, "{}", reply.text());
    }
    assert_eq!((server.calls(), upstream.calls()), (2, 100), "a refusal is remembered too");
    assert_eq!(gateway.metric(OUTGOING, &[("plugin", "introspect"), ("outcome", "ok")]), 2.0);
}
