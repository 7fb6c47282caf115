//! A plugin that does nothing but fail is called no more for a while, and probed; whoever did not make it fail is not kept from it.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile_tests::{Api, Builder, Gateway, Reply, Upstream, api, guest, plugin};

/// An API whose plugin fails where a request asks for it, and tells the upstream which of its calls this is.
fn moody(upstream: &Upstream, id: &str) -> Api {
    api(id).upstream(upstream).pre(plugin("moody").function("ask"))
}

/// A gateway with a clock that stands, whose plugin `moody` may fail three times in ten seconds.
fn gateway(api: Api, clock: &Clock) -> Builder {
    let file = std::fs::read(guest("moody")).expect("it was built");
    let builder = Gateway::with(api).clock(clock).set("/reload/watch", false).file("moody.wasm", file);
    let builder = builder.plugin("moody", "file", "moody.wasm").grant("moody", ["kv"]);
    builder.plugin("moody", "quarantine", json!({ "failures_max": 3 }))
}

fn clock() -> Clock {
    Clock::manual(1_800_000_000_000)
}

fn seconds(clock: &Clock, seconds: u64) {
    clock.advance(Duration::from_secs(seconds));
}

async fn trap(gateway: &Gateway, path: &str) -> Reply {
    gateway.get(path).header("x-mood", "trap").send().await
}

/// Fails until the plugin is in quarantine: four calls.
async fn enter(gateway: &Gateway, clock: &Clock, path: &str) {
    for _ in 0..3 {
        trap(gateway, path).await;
    }
    seconds(clock, 1);
    trap(gateway, path).await;
    assert_eq!(state(gateway).await, "quarantined");
}

async fn plugins(gateway: &Gateway) -> Value {
    gateway.manage("GET", "/stile/plugins").send().await.json()
}

async fn state(gateway: &Gateway) -> String {
    let plugins = plugins(gateway).await;
    let moody = plugins.as_array().and_then(|all| all.iter().find(|plugin| plugin["name"] == "moody"));
    moody.and_then(|plugin| plugin["state"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_plugin_that_does_nothing_but_fail_is_not_called_until_a_probe_succeeds() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).start().await;
    gateway.get("/orders/1").send().await;
    assert_eq!(upstream.last().header("x-calls"), Some("1"));

    enter(&gateway, &clock, "/orders/1").await;
    for _ in 0..5 {
        let reply = gateway.get("/orders/1").send().await;
        assert_eq!((reply.status(), reply.header("retry-after")), (503, Some("1")));
        assert!(reply.text().contains("Service unavailable"), "{}", reply.text());
    }
    seconds(&clock, 1);
    assert_eq!(trap(&gateway, "/orders/1").await.status(), 500, "the first probe");
    seconds(&clock, 1);
    assert_eq!(gateway.get("/orders/1").send().await.status(), 503, "the second pause is longer");
    assert_eq!(upstream.calls(), 1);
    seconds(&clock, 1);
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200, "the second probe");

    // One that went well, four that failed, a probe that failed: no other call was made.
    assert_eq!(upstream.last().header("x-calls"), Some("7"));
    assert_eq!(state(&gateway).await, "loaded");
    let of_hook = [("api", "orders"), ("hook", "pre"), ("plugin", "moody")];
    for (name, labels, expected) in [
        ("stile_plugin_calls_quarantined_total", &of_hook[..], 6.0),
        ("stile_plugin_calls_total", &of_hook, 7.0),
        ("stile_plugin_call_failures_total", &[("kind", "trap")], 5.0),
        ("stile_plugin_call_failures_total", &[("kind", "load")], 0.0),
        ("stile_plugin_quarantines_total", &[("plugin", "moody")], 1.0),
        ("stile_plugin_quarantined", &[("plugin", "moody")], 0.0),
    ] {
        let found = gateway.metric(name, labels);
        assert!((found - expected).abs() < f64::EPSILON, "{name} is {found}, not {expected}");
    }
}

#[tokio::test]
async fn operators_see_it_and_callers_do_not() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).start().await;
    enter(&gateway, &clock, "/orders/1").await;
    gateway.get("/orders/1").send().await;

    let ready = gateway.control("/ready").send().await;
    assert_eq!(ready.status(), 200, "the API is served, as its policy says");
    let told = ready.json()["details"]["plugins.moody.quarantine"].as_str().unwrap_or_default().to_owned();
    let expected =
        "in quarantine since 2027-01-15T08:00:01.000Z, its last failure: trap; requests that need it are refused";
    assert_eq!(told, expected, "what the plugin said is not for everybody");

    let plugin = &plugins(&gateway).await[0];
    let quarantine = &plugin["quarantine"];
    assert_eq!((&plugin["state"], &quarantine["kind"]), (&json!("quarantined"), &json!("trap")));
    assert_eq!((&quarantine["probes"], &quarantine["calls_refused"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&quarantine["since"], &quarantine["next_probe_ms"]),
        (&json!("2027-01-15T08:00:01.000Z"), &json!(1_000))
    );
    assert!(quarantine["reason"].as_str().is_some_and(|reason| reason.contains("as asked")), "{quarantine}");
    assert!((gateway.metric("stile_plugin_quarantined", &[("plugin", "moody")]) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn where_the_policy_says_continue_requests_go_on_without_it() {
    let (upstream, clock) = (Upstream::start(), clock());
    let orders = api("orders").upstream(&upstream).pre(plugin("moody").function("ask").or_continue());
    let gateway = gateway(orders, &clock).start().await;
    enter(&gateway, &clock, "/orders/1").await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);

    assert_eq!(upstream.last().header("x-calls"), None);
    let continued = gateway.metric("stile_plugin_calls_continued_total", &[("api", "orders")]);
    assert!((continued - 5.0).abs() < f64::EPSILON, "{continued}");
    let ready = gateway.control("/ready").send().await.text().to_owned();
    assert!(ready.contains("requests go on without it where `on_failure` is `continue`"), "{ready}");
}

#[tokio::test]
async fn apis_with_one_plugin_share_its_fate_and_other_plugins_are_none_the_wiser() {
    let (upstream, clock) = (Upstream::start(), clock());
    let builder = gateway(moody(&upstream, "orders"), &clock).and(moody(&upstream, "invoices"));
    let other = api("other").upstream(&upstream).pre(plugin("another").function("ask"));
    let builder = builder.and(other).plugin("another", "file", "moody.wasm").grant("another", ["kv"]);
    let gateway = builder.start().await;

    enter(&gateway, &clock, "/orders/1").await;

    assert_eq!(gateway.get("/invoices/1").send().await.status(), 503);
    assert_eq!(gateway.get("/other/1").send().await.status(), 200);
    seconds(&clock, 1);
    assert_eq!(gateway.get("/invoices/1").send().await.status(), 200, "a probe");
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
}

#[tokio::test]
async fn a_caller_cannot_take_a_plugin_from_others_with_requests_of_its_own() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway =
        gateway(moody(&upstream, "orders"), &clock).set("/trusted_proxies", json!(["127.0.0.1"])).start().await;
    let by = |address: &str| gateway.get("/orders/1").header("x-forwarded-for", address);
    for _ in 0..3 {
        by("198.51.100.1").header("x-mood", "trap").send().await;
    }
    seconds(&clock, 1);
    by("198.51.100.1").header("x-mood", "trap").send().await;
    assert_eq!(by("198.51.100.1").send().await.status(), 503);

    assert_eq!(by("198.51.100.2").send().await.status(), 200);

    assert_eq!(state(&gateway).await, "loaded");
    assert_eq!(by("198.51.100.1").send().await.status(), 200);
}

#[tokio::test]
async fn a_new_version_begins_clean_and_a_reload_alone_changes_nothing() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).start().await;
    enter(&gateway, &clock, "/orders/1").await;

    assert_eq!(gateway.manage("POST", "/stile/reload").send().await.json()["outcome"], "unchanged");
    assert_eq!(gateway.get("/orders/1").send().await.status(), 503);

    // A section of its own makes it another file that does the same.
    let mut new = std::fs::read(guest("moody")).expect("it was built");
    new.extend([0, 3, 1, b'v', b'2']);
    gateway.rename_over("moody.wasm", new);
    assert_eq!(gateway.manage("POST", "/stile/reload").send().await.json()["outcome"], "changed");
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    assert_eq!(state(&gateway).await, "loaded");
    gateway.metric_becomes("stile_plugin_quarantined", &[("plugin", "moody")], 0.0).await;
}

#[tokio::test]
async fn nobody_gets_in_while_a_plugin_that_authenticates_is_in_quarantine() {
    let (upstream, clock) = (Upstream::start(), clock());
    let orders = api("orders").upstream(&upstream).auth(plugin("moody").function("ask"));
    let gateway = gateway(orders, &clock).start().await;
    enter(&gateway, &clock, "/orders/1").await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 503);
    assert_eq!(upstream.calls(), 0);
    seconds(&clock, 1);
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
}

#[tokio::test]
async fn records_are_dropped_while_the_plugin_that_masks_them_is_in_quarantine() {
    let (upstream, clock) = (Upstream::start(), clock());
    let orders = api("orders").upstream(&upstream).detailed().hook("analytics", plugin("moody").function("ask"));
    let gateway = gateway(orders, &clock).recording().start().await;
    let dropped = async |records: f64| {
        let labels = [("api", "orders"), ("reason", "plugin")];
        gateway.metric_becomes("stile_analytics_records_dropped_total", &labels, records).await;
    };
    // One at a time: records that wait together are one call.
    for records in [1.0, 2.0, 3.0] {
        trap(&gateway, "/orders/1").await;
        dropped(records).await;
    }
    seconds(&clock, 1);
    trap(&gateway, "/orders/1").await;
    dropped(4.0).await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    dropped(5.0).await;
    let refused = gateway.metric("stile_plugin_calls_quarantined_total", &[("hook", "analytics")]);
    assert!((refused - 1.0).abs() < f64::EPSILON, "{refused}");
    let failures = gateway.metric("stile_plugin_call_failures_total", &[("hook", "analytics")]);
    assert!((failures - 4.0).abs() < f64::EPSILON, "{failures}");
    let ready = gateway.control("/ready").send().await.text().to_owned();
    assert!(ready.contains("records that it masks are dropped"), "{ready}");

    seconds(&clock, 1);
    gateway.get("/orders/2").send().await;
    assert_eq!(gateway.records(1).await[0]["raw_path"], "/orders/2");
}

#[tokio::test]
async fn verdicts_that_do_not_fit_the_request_are_failures_too() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).start().await;
    let ask = async || gateway.get("/orders/1").header("x-mood", "vars").send().await.status();
    for _ in 0..3 {
        assert_eq!(ask().await, 500);
    }
    seconds(&clock, 1);
    assert_eq!(ask().await, 500);
    assert_eq!(ask().await, 503);
}

#[tokio::test]
async fn an_operator_ends_it() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).start().await;
    enter(&gateway, &clock, "/orders/1").await;
    let release = async |name: &str| {
        let reply = gateway.manage("POST", &format!("/stile/plugins/{name}/release")).send().await;
        (reply.status(), reply.json())
    };

    assert_eq!(gateway.control("/stile/plugins/moody/release").send().await.status(), 403, "the secret is needed");
    assert_eq!(gateway.manage("GET", "/stile/plugins/moody/release").send().await.status(), 405);
    assert_eq!(release("none").await.0, 404);
    assert_eq!(state(&gateway).await, "quarantined");
    assert_eq!(release("moody").await, (200, json!({ "key": "moody", "status": "ok", "action": "released" })));
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    assert_eq!(release("moody").await.1["action"], "unchanged");

    enter(&gateway, &clock, "/orders/1").await;
    let control = format!("http://{}", gateway.control_address());
    let secret = gateway.definition()["control"]["secret"].as_str().unwrap_or_default().to_owned();
    let command = ["stile", "plugin", "release", "moody", "--control", &control, "--secret", &secret];
    let command = command.map(std::ffi::OsString::from);
    let code = tokio::task::spawn_blocking(move || stile::cli::run(command)).await.expect("no panic");
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
    assert_eq!(state(&gateway).await, "loaded");
}

#[tokio::test]
async fn it_can_be_switched_off_for_all_plugins() {
    let (upstream, clock) = (Upstream::start(), clock());
    let gateway = gateway(moody(&upstream, "orders"), &clock).set("/plugin_quarantine", json!({ "enabled": false }));
    let gateway = gateway.start().await;
    for _ in 0..8 {
        assert_eq!(trap(&gateway, "/orders/1").await.status(), 500);
        seconds(&clock, 1);
    }
    assert_eq!(state(&gateway).await, "loaded");
}
