//! Calls of plugins to APIs of the gateway, and requests that they send on to them: what these go through, and how far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stile::model::gateway::{AccessLog, Log, LogFormat};
use stile::model::key::KeyHash;
use stile::model::session::{AccessRight, Quota, Session};
use stile::store::Life;
use stile_tests::{Answer, Api, Builder, Gateway, Upstream, api, log_of, plugin};

const TABLE: &str = include_str!("../data/apis.txt");

/// A line of the table.
struct Expected {
    /// `None` where the call fails; `*` for anything.
    told: Option<String>,
    outcomes: BTreeSet<&'static str>,
    failure: Option<&'static str>,
}

fn table() -> BTreeMap<&'static str, Expected> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    rows.map(|line| {
        let [attack, told, outcomes, failure] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not four columns");
        };
        let some = |text: &'static str| Some(text).filter(|text| *text != "-");
        let told = some(told).map(|told| told.replace('_', " "));
        let outcomes = some(outcomes).into_iter().flat_map(|outcomes| outcomes.split(',')).collect();
        (attack, Expected { told, outcomes, failure: some(failure) })
    })
    .collect()
}

/// The upstream of the API that may be called.
fn server() -> Upstream {
    Upstream::answering(|seen| match seen.target.as_str() {
        "/large" => Answer::new(200).pieces([LARGE; 5], None),
        "/declared" => Answer::new(200).body(LARGE.repeat(5)),
        "/head" => Answer::new(200).header("x-large", &"x".repeat(20_000)),
        "/drip" => Answer::new(200).pieces(["a"; 100], None).pausing(Duration::from_millis(100)),
        "/slow" => Answer::new(200).after(SLOW),
        "/broken" => Answer::new(200).header("content-length", "100").pieces(["half"], None),
        _ => Answer::new(200).body("inner"),
    })
}

const LARGE: &str = {
    const BYTES: &[u8] = &[b'x'; 6_000];
    match std::str::from_utf8(BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
/// Beyond all limits of the test.
const SLOW: Duration = Duration::from_millis(1_500);

fn attack(name: &str, count: u32) -> Value {
    json!({ "attack": name, "count": count })
}

fn inner(upstream: &Upstream) -> Api {
    api("inner").strip().upstream(upstream)
}

/// An API whose plugin tries this.
fn outer(config: Value) -> Api {
    api("orders").pre(plugin("inner").config(config)).upstream_url("http://127.0.0.1:1")
}

/// The plugin may call `inner`.
fn granted(builder: Builder) -> Builder {
    builder.grant("inner", ["apis", "upstream"]).plugin("inner", "apis", json!({ "allow": ["inner"] }))
}

fn limits(attack: &str) -> Value {
    json!({
        "deadline_ms": if attack == "deadline" { 300 } else { 10_000 },
        "fuel": 1_000_000_000_000_u64,
        "api_time_max_ms": if matches!(attack, "slow" | "drip" | "at_once") { 300 } else { 5_000 },
        "api_request_bytes_max": 200_000,
        "api_response_bytes_max": 10_000,
        "api_concurrency_max": if attack == "at_once" { 2 } else { 64 },
        "api_wait_ms": 20,
    })
}

async fn check(name: &str) {
    let table = table();
    let expected = table.get(name).unwrap_or_else(|| panic!("`{name}` is not in the table"));
    let (allowed, forbidden) = (server(), Upstream::start());
    let count = match name {
        "body" => 200_001,
        "at_once" => 4,
        _ => 9,
    };
    let builder = Gateway::with(outer(attack(name, count))).and(inner(&allowed));
    let builder =
        builder.and(api("other").upstream(&forbidden)).and(api("taken").path("/inner/taken/").upstream(&forbidden));
    let gateway = granted(builder).limits("inner", limits(name)).start().await;

    let reply = gateway.get("/orders/1").send().await;

    let text = reply.text();
    match &expected.told {
        None => assert_eq!(reply.status(), 500, "{name}: {text}"),
        Some(told) => {
            assert_eq!(reply.status(), 200, "{name}: {text}");
            assert!(told == "*" || *told == text, "{name}: `{text}`");
        }
    }
    let counted: BTreeSet<&str> =
        OUTCOMES.into_iter().filter(|outcome| gateway.metric(CALLS, &[("outcome", outcome)]) > 0.0).collect();
    assert_eq!(counted, expected.outcomes, "{name}");
    for kind in ["trap", "deadline", "host_call", "plugin_error"] {
        let counted = gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]);
        assert_eq!(counted, f64::from(u8::from(expected.failure == Some(kind))), "{name}: {kind}");
    }
    assert_eq!(forbidden.calls(), 0, "{name}: {:?}", forbidden.seen());
    for seen in allowed.seen() {
        assert_eq!((seen.header("x-smuggled"), seen.header("x-forwarded-for")), (None, Some("127.0.0.1")), "{name}");
        assert_eq!((seen.header("x-real-ip"), seen.header("forwarded")), (None, None), "{name}");
        assert_eq!(
            (seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")),
            (Some("http"), Some("localhost"))
        );
        assert_ne!(seen.header("x-request-id"), Some("evil"), "{name}");
    }
}

const CALLS: &str = "stile_plugin_api_calls_total";
const OUTCOMES: [&str; 13] = [
    "ok",
    "hook",
    "calls",
    "not_allowed",
    "not_found",
    "invalid",
    "request_bytes",
    "response_bytes",
    "too_deep",
    "busy",
    "time",
    "broken_off",
    "aborted",
];

macro_rules! attacks {
    ($($name:ident: $attack:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                check($attack).await;
            }
        )*

        #[test]
        fn every_attack_of_the_table_is_a_test() {
            let tested = BTreeSet::from([$($attack),*]);
            assert_eq!(table().keys().copied().collect::<BTreeSet<_>>(), tested);
        }
    };
}

attacks! {
    a_plugin_calls_an_api_that_is_listed: "none";
    an_api_that_is_not_listed_is_not_called: "unlisted";
    a_path_is_no_id: "no_id";
    a_path_above_the_listen_path_is_none: "above";
    nor_is_it_one_when_it_is_escaped: "above_escaped";
    a_path_that_another_api_has_taken_is_not_there: "taken";
    a_line_break_in_a_path_is_refused: "path_crlf";
    a_line_break_in_a_field_is_refused: "crlf";
    the_host_field_is_the_gateway_s: "host";
    the_length_is_the_gateway_s: "content_length";
    the_connection_field_is_the_gateway_s: "connection";
    the_framing_is_the_gateway_s: "transfer_encoding";
    the_method_connect_is_refused: "connect";
    a_plugin_does_not_choose_who_calls: "spoof";
    a_body_over_its_limit_is_not_sent: "body";
    an_answer_over_its_limit_is_not_given: "large_answer";
    an_answer_that_declares_to_be_over_its_limit_is_not_given: "declared_answer";
    header_fields_of_an_answer_count_too: "large_head";
    an_answer_that_does_not_come_is_waited_for_so_long: "slow";
    an_answer_that_does_not_end_is_waited_for_so_long: "drip";
    a_plugin_may_wait_less: "impatient";
    an_answer_that_breaks_off_is_none: "broken";
    a_call_ends_at_its_deadline_while_it_waits_for_an_answer: "deadline";
    a_plugin_that_calls_too_often_at_once_is_ended: "calls";
    a_plugin_that_calls_too_often_in_turn_is_ended: "calls_in_turn";
    a_plugin_makes_so_many_calls_at_a_time: "at_once";
    there_are_no_calls_in_init: "init";
}

#[tokio::test]
async fn there_are_no_calls_in_analytics() {
    let upstream = server();
    let definition = api("orders").upstream(&upstream).recorded().analytics(plugin("inner").config(attack("none", 1)));
    let gateway = granted(Gateway::with(definition).and(inner(&upstream))).recording().start().await;

    gateway.get("/orders/1").send().await;

    assert_eq!(gateway.records(1).await[0]["tags"], json!(["the API may not be called"]));
    assert_eq!((upstream.calls(), gateway.metric(CALLS, &[("outcome", "hook")])), (1, 1.0));
}

/// A key with a right to these APIs and a quota.
async fn keep(gateway: &Gateway, token: &str, apis: &[&str], quota: i64) {
    let right = |id: &&str| AccessRight { api_id: (*id).to_owned(), ..AccessRight::default() };
    let quota = Quota { max: quota, renewal_rate: 3_600, ..Quota::default() };
    let session = Session { access_rights: apis.iter().map(right).collect(), quota, ..Session::default() };
    let kept = gateway.store().create_session(&KeyHash::of(token), &session, Life::Forever).await;
    assert_eq!(kept, Ok(true));
}

#[tokio::test]
async fn a_call_goes_through_all_that_its_api_has() {
    let upstream = server();
    let keyed = inner(&upstream)
        .set("/auth", json!({}))
        .recorded()
        .pre(plugin("headers").config(json!({ "set": { "x-pre": "1" } })));
    let outer = outer(attack("with_credential", 1)).recorded();
    let gateway = granted(Gateway::with(outer).and(keyed)).recording().start().await;
    keep(&gateway, "ana-token", &["inner"], 2).await;
    keep(&gateway, "ben-token", &["orders"], 2).await;
    let told =
        async |token: &str| gateway.get("/orders/1").header("authorization", token).send().await.text().to_owned();

    assert_eq!(told("ana-token").await, "200 inner");
    let sent = upstream.last();
    assert_eq!((sent.method.as_str(), sent.target.as_str(), &sent.body[..]), ("POST", "/1", &b"asked"[..]));
    assert_eq!((sent.header("x-pre"), sent.header("content-length")), (Some("1"), Some("5")));
    assert!(told("nobody").await.starts_with("403 "));
    assert!(told("ben-token").await.starts_with("403 "), "no right to it");
    assert_eq!(told("ana-token").await, "200 inner");
    assert!(told("ana-token").await.starts_with("403 "), "the quota is used up");

    assert_eq!(upstream.calls(), 2);
    assert_eq!(gateway.metric(CALLS, &[("api", "orders"), ("plugin", "inner"), ("outcome", "ok")]), 5.0);
    for (id, status, count) in [("orders", "200", 5.0), ("inner", "200", 2.0), ("inner", "403", 3.0)] {
        gateway.metric_becomes("stile_requests_total", &[("api", id), ("status", status)], count).await;
    }
    let records = gateway.records(10).await;
    assert_eq!(records.iter().filter(|record| record["api_id"] == "inner").count(), 5);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_call_along() {
    let upstream = server();
    let gateway = granted(Gateway::with(outer(attack("slow", 1))).and(inner(&upstream)));
    let gateway = gateway.limits("inner", json!({ "deadline_ms": 10_000 })).start().await;

    let call = tokio::spawn(gateway.get("/orders/1").send());
    while upstream.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();

    gateway.metric_becomes(CALLS, &[("outcome", "aborted")], 1.0).await;
    gateway.metric_becomes("stile_requests_aborted_total", &[("api", "inner")], 1.0).await;
    gateway.metric_becomes("stile_upstream_connections_open", &[], 0.0).await;
}

/// Each call of the plugin calls its own API again: so many nested answers.
async fn recursion(depth_max: u32) -> (Gateway, String) {
    let config = json!({ "attack": "none", "api": "orders" });
    let builder = Gateway::with(outer(config)).set("/runtime/api_depth_max", depth_max);
    let builder = builder.grant("inner", ["apis", "upstream"]).plugin("inner", "apis", json!({ "allow": ["orders"] }));
    let gateway = builder.start().await;
    let text = gateway.get("/orders/1").send().await.text().to_owned();
    (gateway, text)
}

// limit: runtime.api_depth_max
#[tokio::test]
async fn an_api_that_calls_itself_does_so_only_so_deep() {
    for (depth_max, expected) in [
        (0, "calls of calls are too deep"),
        (1, "200 calls of calls are too deep"),
        (3, "200 200 200 calls of calls are too deep"),
    ] {
        let (gateway, text) = recursion(depth_max).await;
        assert_eq!(text, expected);
        assert_eq!(gateway.metric(CALLS, &[("outcome", "too_deep")]), 1.0);
        assert_eq!(gateway.metric(CALLS, &[("outcome", "ok")]), f64::from(depth_max));
    }
}

#[tokio::test]
async fn calls_and_requests_that_are_sent_on_are_counted_together() {
    let to = |api: &str| plugin("inner").config(json!({ "attack": "none", "api": api }));
    let (there, back) = (api("there").strip().post(to("back")), api("back").strip().pre(to("there")));
    let url = "http://127.0.0.1:1";
    let builder = Gateway::with(there.upstream_url(url)).and(back.upstream_url(url));
    let builder = builder.grant("inner", ["apis", "upstream"]);
    let gateway = builder.plugin("inner", "apis", json!({ "allow": ["there", "back"] })).start().await;

    // `there`, sent on to `back` (1), which calls `there` (2), sent on to `back` (3), which calls in vain.
    assert_eq!(gateway.get("/there/1").send().await.text(), "200 calls of calls are too deep");

    assert_eq!(gateway.metric(CALLS, &[("outcome", "too_deep")]), 1.0);
    gateway.metric_becomes("stile_requests_total", &[], 4.0).await;
}

#[tokio::test]
async fn a_flood_of_calls_is_held_and_others_are_served_meanwhile() {
    let upstream = server();
    let builder = Gateway::with(outer(attack("at_once", 8))).and(inner(&upstream)).and(api("calm").upstream(&upstream));
    let limits = json!({ "deadline_ms": 10_000, "api_concurrency_max": 4, "api_wait_ms": 0 });
    let gateway = granted(builder).limits("inner", limits).start().await;

    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
    gateway.metric_becomes(CALLS, &[("outcome", "busy")], 156.0).await;
    // The four that there is a place for wait for their answers.
    assert_eq!(gateway.get("/calm/1").send().await.status(), 200);
    assert_eq!(gateway.metric(CALLS, &[("outcome", "ok")]), 0.0);
    for call in calls {
        assert_eq!(call.await.expect("no panic").status(), 200);
    }

    assert_eq!(gateway.metric(CALLS, &[("outcome", "ok")]), 4.0);
}

#[test]
fn the_line_of_a_request_names_the_one_that_it_comes_from() {
    let log = log_of("apis::child");

    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |api: &str| lines.iter().find(|line| line["api"] == api).unwrap_or_else(|| panic!("{api}: {log}"));
    assert_eq!(of("orders").get("parent"), None);
    for (parent, child) in [("orders", "middle"), ("middle", "inner")] {
        assert_eq!(of(child)["parent"], of(parent)["request_id"], "{log}");
        assert_ne!(of(child)["request_id"], of(parent)["request_id"], "{log}");
    }
}

/// A process of its own, because its log is the process's.
#[tokio::test]
#[ignore = "a test above runs it"]
async fn child() {
    let log = Log { format: LogFormat::Json, filter: "info".to_owned(), access: AccessLog::All };
    stile::telemetry::log::init(&log).expect("the filter is good");
    let upstream = server();
    let middle = api("middle").upstream_url("http://127.0.0.1:1").pre(plugin("inner").config(attack("none", 1)));
    let builder = Gateway::with(sent_on("middle")).and(middle).and(inner(&upstream)).set("/log/access", "all");
    let builder = builder.grant("inner", ["apis", "upstream"]);
    let gateway = builder.plugin("inner", "apis", json!({ "allow": ["middle", "inner"] })).start().await;
    assert_eq!(gateway.get("/orders/1").send().await.text(), "200 inner");
}

// limit: plugin_limits.api_calls_max
#[tokio::test]
async fn a_call_of_a_plugin_may_make_so_many_calls() {
    let upstream = server();
    for (name, count, status, failures) in
        [("calls", 3, 200, 0.0), ("calls", 4, 500, 1.0), ("calls_in_turn", 3, 200, 0.0), ("calls_in_turn", 4, 500, 1.0)]
    {
        let builder = granted(Gateway::with(outer(attack(name, count))).and(inner(&upstream)));
        let gateway = builder.limits("inner", json!({ "deadline_ms": 10_000, "api_calls_max": 3 })).start().await;

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{name} {count}");
        assert_eq!(
            gateway.metric("stile_plugin_call_failures_total", &[("kind", "host_call")]),
            failures,
            "{name} {count}"
        );
        assert_eq!(gateway.metric(CALLS, &[("outcome", "calls")]), failures, "{name} {count}");
    }
}

/// What one call comes to, with these limits.
async fn limited(name: &str, count: u32, limits: Value) -> (Gateway, String) {
    let upstream = server();
    let builder = granted(Gateway::with(outer(attack(name, count))).and(inner(&upstream)));
    let mut all = json!({ "deadline_ms": 10_000 });
    if let (Some(all), Value::Object(limits)) = (all.as_object_mut(), limits) {
        all.extend(limits);
    }
    let gateway = builder.limits("inner", all).start().await;
    let text = gateway.get("/orders/1").send().await.text().to_owned();
    (gateway, text)
}

// limit: plugin_limits.api_request_bytes_max
#[tokio::test]
async fn the_body_of_a_call_may_be_so_long() {
    for (count, text, refused) in [(100, "200 inner", 0.0), (101, "the request or its answer is over a limit", 1.0)] {
        let (gateway, told) = limited("body", count, json!({ "api_request_bytes_max": 100 })).await;
        assert_eq!(told, text);
        assert_eq!(gateway.metric(CALLS, &[("outcome", "request_bytes")]), refused);
    }
}

// limit: plugin_limits.api_response_bytes_max
#[tokio::test]
async fn the_answer_of_a_call_may_be_so_long() {
    let answered = async |bytes_max: u64| {
        let (gateway, told) = limited("large_answer", 1, json!({ "api_response_bytes_max": bytes_max })).await;
        (told.starts_with("200 xxx"), gateway.metric(CALLS, &[("outcome", "response_bytes")]))
    };
    // The fields that every answer has count too, and are the upstream's.
    let (mut few, mut enough) = (30_000, 30_200);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        if answered(middle).await.0 { enough = middle } else { few = middle }
    }

    assert_eq!(answered(enough).await, (true, 0.0), "{enough}");
    assert_eq!(answered(few).await, (false, 1.0), "{few}");
}

// limit: plugin_limits.api_time_max_ms
#[tokio::test]
async fn a_call_may_take_so_long() {
    // Time is the system's: the answer takes a sixth of one limit and five times the other.
    for (time_max_ms, text, refused) in [(9_000, "200 ", 0.0), (300, "there was no answer in time", 1.0)] {
        let (gateway, told) = limited("slow", 1, json!({ "api_time_max_ms": time_max_ms })).await;
        assert_eq!(told, text);
        assert_eq!(gateway.metric(CALLS, &[("outcome", "time")]), refused);
    }
}

// limit: plugin_limits.api_concurrency_max
#[tokio::test]
async fn a_plugin_may_make_so_many_calls_at_a_time() {
    for (count, busy) in [(2, 0.0), (3, 1.0)] {
        let (gateway, told) = limited("at_once", count, json!({ "api_concurrency_max": 2, "api_wait_ms": 0 })).await;
        assert_eq!(told.matches("200 ").count(), 2, "{told}");
        assert_eq!(gateway.metric(CALLS, &[("outcome", "busy")]), busy);
    }
}

// limit: plugin_limits.api_wait_ms
#[tokio::test]
async fn a_call_waits_so_long_for_others_to_end() {
    // Time is the system's: the other call takes a sixth of one limit and five times the other.
    for (wait_ms, busy) in [(9_000, 0.0), (300, 1.0)] {
        let (gateway, _) = limited("at_once", 2, json!({ "api_concurrency_max": 1, "api_wait_ms": wait_ms })).await;
        assert_eq!(gateway.metric(CALLS, &[("outcome", "busy")]), busy, "{wait_ms}");
    }
}

#[tokio::test]
async fn plugins_that_wait_for_plugins_do_not_wait_for_ever() {
    let upstream = server();
    // Each call takes an instance and wants another one for the API that it calls.
    let builder = Gateway::with(outer(attack("none", 1))).and(inner(&upstream).pre("hello"));
    let builder = granted(builder).limits("inner", json!({ "deadline_ms": 10_000, "instance_wait_ms": 20 }));
    let builder = builder.set("/runtime/instances_max", 2).set("/runtime/plugin_share_percent", 100);
    let gateway = builder.limits("hello", json!({ "instance_wait_ms": 20, "deadline_ms": 10_000 })).start().await;

    let begun = Instant::now();
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
    for call in calls {
        let reply = call.await.expect("no panic");
        assert!(matches!(reply.status(), 200 | 503), "{}: {}", reply.status(), reply.text());
        assert!(
            reply.status() == 503 || reply.text() == "200 inner" || reply.text().starts_with("503 "),
            "{}",
            reply.text()
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(gateway.get("/orders/1").send().await.text(), "200 inner", "afterwards");
}

#[tokio::test]
async fn a_plugin_that_waits_for_an_api_has_no_turn_on_the_core() {
    let upstream = server();
    // Either takes many slices of the core; with one turn for both, the outer one would wait until its deadline.
    let working = inner(&upstream).pre(plugin("worker").config(json!({ "attack": "work_only", "api": "calm" })));
    let builder =
        granted(Gateway::with(outer(attack("work", 1))).and(working).and(api("calm").strip().upstream(&upstream)));
    let builder = builder.plugin("worker", "file", stile_tests::guest("inner").display().to_string());
    let builder = builder.grant("worker", ["apis", "upstream"]).plugin("worker", "apis", json!({ "allow": ["calm"] }));
    let limits = json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 20_000, "api_time_max_ms": 15_000 });
    let gateway = builder.limits("inner", limits.clone()).limits("worker", limits).start().await;

    assert_eq!(gateway.get("/orders/1").send().await.text(), "200 200 inner");
}

#[tokio::test]
async fn answers_and_bodies_of_calls_cost_fuel_by_the_byte() {
    for (name, count) in [("body", 20_000), ("large_answer", 1)] {
        let fuel = async |price: u32| {
            let limits = json!({ "fuel": 1_000_000_000_000_u64, "host_call_fuel_per_byte": price });
            let (gateway, _) = limited(name, count, limits).await;
            gateway.metric("stile_plugin_call_fuel_sum", &[("api", "orders")])
        };
        let (free, paid) = (fuel(0).await, fuel(100).await);
        assert!(paid - free > 2_000_000.0 * 0.9, "{name}: {free} {paid}");
    }
}

/// `orders` sends its requests on to `inner`.
fn sent_on(to: &str) -> Api {
    let used = plugin("inner").config(json!({ "attack": "none", "api": to }));
    api("orders").post(used).upstream_url("http://127.0.0.1:1")
}

#[tokio::test]
async fn a_request_that_is_sent_on_goes_through_all_that_the_other_api_has() {
    let upstream = Upstream::answering(|seen| Answer::new(201).header("x-up", "1").body(seen.body.clone()));
    let tagged = |value: &str| plugin("headers").config(json!({ "add": { "x-tag": value } }));
    let keyed = inner(&upstream).set("/auth", json!({})).recorded().pre(tagged("inner"));
    let outer =
        sent_on("inner").pre(tagged("outer")).recorded().response(plugin("response-hardening").function("headers"));
    let gateway = granted(Gateway::with(outer).and(keyed)).recording().start().await;
    keep(&gateway, "ana-token", &["inner"], 1).await;
    let call = |token: &str| gateway.post("/orders/a/b?c=d", "streamed").header("authorization", token);

    let reply = call("ana-token").send().await;
    assert_eq!((reply.status(), reply.text(), reply.header("x-up")), (201, "streamed", Some("1")));
    assert_eq!(reply.header("x-frame-options"), Some("DENY"), "response hooks see it");
    let sent = upstream.last();
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/a/b?c=d"));
    assert_eq!((sent.headers("x-tag"), sent.header("x-forwarded-for")), (vec!["outer", "inner"], Some("127.0.0.1")));
    assert_eq!(call("ana-token").send().await.status(), 403, "its quota is used up");
    assert_eq!(call("nobody").send().await.status(), 403);

    assert_eq!(upstream.calls(), 1);
    for id in ["orders", "inner"] {
        gateway.metric_becomes("stile_requests_total", &[("api", id), ("status", "201")], 1.0).await;
        gateway.metric_becomes("stile_requests_total", &[("api", id), ("status", "403")], 2.0).await;
    }
    let records = gateway.records(6).await;
    assert_eq!(records.iter().filter(|record| record["api_id"] == "inner").count(), 3);
}

#[tokio::test]
async fn a_request_is_sent_on_to_listed_apis_only() {
    let upstream = Upstream::start();
    let gateway = granted(Gateway::with(sent_on("other")).and(inner(&upstream)).and(api("other").upstream(&upstream)));
    let gateway = gateway.start().await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 500);

    assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "bad_output")]), 1.0);
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_request_that_is_sent_in_a_circle_ends() {
    let builder = Gateway::with(sent_on("orders")).grant("inner", ["apis", "upstream"]);
    let gateway = builder.plugin("inner", "apis", json!({ "allow": ["orders"] })).start().await;

    let reply = gateway.get("/orders/1").send().await;

    assert_eq!((reply.status(), reply.json()), (500, json!({ "error": "Loop level too deep" })));
    assert_eq!(gateway.metric("stile_refusals_total", &[("reason", "too_deep")]), 1.0);
    gateway.metric_becomes("stile_requests_total", &[("status", "500")], 4.0).await;
    gateway.metric_becomes("stile_requests_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn an_upgrade_passes_to_the_api_that_the_request_is_sent_on_to() {
    let upstream = stile_tests::RawUpstream::start().await;
    let inner = api("inner").strip().upstream_url(&upstream.url());
    let gateway = granted(Gateway::with(sent_on("inner")).and(inner)).start().await;

    let mut caller = gateway.raw().await;
    caller.write("GET /orders/ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut server = upstream.accept().await;
    assert!(server.until("\r\n\r\n").await.starts_with("GET /ws "));
    server
        .write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nto caller;")
        .await;

    assert!(caller.until("to caller;").await.starts_with("HTTP/1.1 101 "));
    caller.write("to server;").await;
    assert_eq!(server.until(";").await, "to server;");
}

#[tokio::test]
async fn lists_of_apis_are_checked_when_the_configuration_is_read() {
    let upstream = Upstream::start();
    let builder = || Gateway::with(outer(attack("none", 1))).and(inner(&upstream));
    let refused = async |builder: Builder| match builder.try_start().await {
        Ok(gateway) => gateway.problems(),
        Err(problem) => problem,
    };
    let without_list = refused(builder().grant("inner", ["apis", "upstream"])).await;
    assert!(without_list.contains("`apis` is granted, but there is no list of APIs"), "{without_list}");
    let without_grant = refused(builder()).await;
    assert!(
        without_grant.contains("add `apis` to `plugins.inner.grants` and their ids to its `apis.allow`"),
        "{without_grant}"
    );
    let granted = || builder().grant("inner", ["apis", "upstream"]);
    let misspelt = refused(granted().plugin("inner", "apis", json!({ "allow": ["iner"] }))).await;
    assert!(misspelt.contains("there is no API `iner`") && misspelt.contains("did you mean `inner`?"), "{misspelt}");
    let listed = granted().plugin("inner", "apis", json!({ "allow": ["inner"] }));
    let over = refused(listed.set("/runtime/apis_max", json!(["orders"]))).await;
    assert!(over.contains("`inner` is not in `runtime.apis_max`"), "{over}");
}
