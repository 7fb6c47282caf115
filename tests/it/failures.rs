//! The failure policy: each hook under each kind of failure comes to what `tests/data/failures.txt` says.

use serde_json::json;
use stile::model::plugin::{FailureKind, Hook};
use stile_tests::{Api, Builder, Gateway, Upstream, api, guest, plugin};

/// A line of the table.
struct Cell {
    hook: &'static str,
    kind: &'static str,
    status: u16,
    words: &'static str,
    is_asked: bool,
    /// `None` where the configuration is refused.
    continued: Option<u16>,
    counted: &'static str,
    dropped: f64,
}

const TABLE: &str = include_str!("../data/failures.txt");

fn cells() -> Vec<Cell> {
    TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(cell).collect()
}

fn cell(line: &'static str) -> Cell {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [hook, kind, reject, asked, continued, counted, dropped] = columns[..] else {
        panic!("`{line}` has not seven columns");
    };
    let (status, words) = reject.split_once(' ').expect("a status and words");
    Cell {
        hook,
        kind,
        status: status.parse().expect("a status"),
        words,
        is_asked: match asked {
            "yes" => true,
            "no" => false,
            _ => panic!("`{asked}` is neither yes nor no"),
        },
        continued: (continued != "refused").then(|| continued.parse().expect("a status")),
        counted,
        dropped: dropped.parse().expect("a number"),
    }
}

/// Which plugin of the configuration fails in this way, and by which attack of `tests/plugins/hostile`.
fn cause(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "load" => ("hostile", "err_in_init_later"),
        "trap" => ("hostile", "panic"),
        "fuel" => ("short-of-fuel", "spin"),
        "deadline" => ("late", "spin_on"),
        "memory" => ("hostile", "allocate"),
        "host_call" => ("hostile", "host_calls"),
        "bad_output" => ("hostile", "crlf"),
        // It would fail with `err` if it were not busy.
        "busy" => ("taken", "err"),
        "plugin_error" => ("hostile", "err"),
        _ => panic!("`{kind}` is no kind of failure"),
    }
}

/// An API whose plugin fails in the way of the cell.
fn failing(upstream: &Upstream, id: &str, cell: &Cell, goes_on: bool) -> Api {
    let (name, attack) = cause(cell.kind);
    let used = plugin(name).function("attack").config(json!({ "attack": attack }));
    let used = if goes_on { used.or_continue() } else { used };
    api(id).upstream(upstream).set("/analytics/enabled", cell.hook == "analytics").hook(cell.hook, used)
}

/// One component under four names, each with limits for what it is to fail by.
fn plugins(builder: Builder) -> Builder {
    let plenty = 1_000_000_000_000_u64;
    let limits = [
        ("hostile", json!({ "fuel": plenty, "deadline_ms": 2_000 })),
        ("short-of-fuel", json!({ "fuel": 2_000_000, "deadline_ms": 2_000 })),
        ("late", json!({ "fuel": plenty, "deadline_ms": 100 })),
        ("taken", json!({ "fuel": plenty, "deadline_ms": 30_000, "concurrency_max": 1, "instance_wait_ms": 10 })),
    ];
    limits.into_iter().fold(builder, |builder, (name, limits)| {
        let file = guest("hostile").display().to_string();
        builder.plugin(name, "file", file).grant(name, ["log", "kv"]).limits(name, limits)
    })
}

/// All kinds at one hook.
async fn check(hook: &str) {
    let upstream = Upstream::start();
    let holder = plugin("taken").function("attack").config(json!({ "attack": "sleep" }));
    let mut builder = Gateway::with(api("holder").upstream(&upstream).pre(holder));
    let cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.hook == hook).collect();
    for cell in &cells {
        builder = builder.and(failing(&upstream, &format!("reject-{}", cell.kind), cell, false));
        if cell.continued.is_some() {
            builder = builder.and(failing(&upstream, &format!("continue-{}", cell.kind), cell, true));
        }
    }
    // Nobody waits for the holder at the end.
    let builder = plugins(builder).set("/limits/drain_timeout_ms", 100).recording();
    let gateway = builder.start().await;

    let mut wrong = Vec::new();
    for cell in &cells {
        let holder = (cell.kind == "busy").then(|| tokio::spawn(gateway.get("/holder/1").send()));
        if holder.is_some() {
            gateway.metric_becomes("stile_plugin_slots_in_use", &[], 1.0).await;
        }
        let under_reject = (format!("reject-{}", cell.kind), cell.status, cell.words, cell.is_asked, 0.0);
        let under_continue = cell.continued.map(|status| (format!("continue-{}", cell.kind), status, "-", true, 1.0));
        for (id, status, words, is_asked, continued) in [Some(under_reject), under_continue].into_iter().flatten() {
            let expected = format!("{status} {words}, asked {is_asked}, continued {continued}");
            let found = outcome(&gateway, &upstream, &id, cell, words).await;
            if found != expected {
                wrong.push(format!("{hook} {id}: {found}\n  instead of {expected}"));
            }
        }
        if let Some(holder) = holder {
            holder.abort();
        }
    }

    assert_eq!(wrong, [""; 0]);
}

/// What one request of the API comes to.
async fn outcome(gateway: &Gateway, upstream: &Upstream, id: &str, cell: &Cell, words: &str) -> String {
    let calls = upstream.calls();
    let reply = gateway.get(&format!("/{id}/1")).header("authorization", "key").send().await;
    let labels = [("api", id), ("hook", cell.hook), ("kind", cell.counted)];
    gateway.metric_becomes("stile_plugin_call_failures_total", &labels, 1.0).await;
    let all = gateway.metric("stile_plugin_call_failures_total", &[("api", id)]);
    assert!((all - 1.0).abs() < f64::EPSILON, "{id}: {}", gateway.page().counted("stile_plugin_call_failures_total"));
    let dropped = [("api", id), ("reason", "plugin")];
    gateway.metric_becomes("stile_analytics_records_dropped_total", &dropped, cell.dropped).await;
    let continued = gateway.metric("stile_plugin_calls_continued_total", &[("api", id)]);
    let text = reply.text();
    assert!(!text.contains("nobody"), "the plugin's words are not the caller's to read: {text}");
    let has_words = if words == "-" { !text.contains("\"error\"") } else { text.contains(words) };
    let told = if has_words { words } else { text };
    let is_asked = upstream.calls() > calls;
    format!("{} {told}, asked {is_asked}, continued {continued}", reply.status())
}

macro_rules! hooks {
    ($($test:ident: $hook:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                check($hook).await;
            }
        )*

        #[test]
        fn every_hook_is_tried() {
            assert_eq!([$($hook),*], Hook::ALL.map(Hook::as_str));
        }
    };
}

hooks! {
    every_kind_of_failure_in_pre_comes_to_what_the_table_says: "pre";
    every_kind_of_failure_in_auth_comes_to_what_the_table_says: "auth";
    every_kind_of_failure_in_post_auth_comes_to_what_the_table_says: "post_auth";
    every_kind_of_failure_in_endpoint_comes_to_what_the_table_says: "endpoint";
    every_kind_of_failure_in_post_comes_to_what_the_table_says: "post";
    every_kind_of_failure_in_response_comes_to_what_the_table_says: "response";
    every_kind_of_failure_in_analytics_comes_to_what_the_table_says: "analytics";
}

#[test]
fn the_table_has_every_cell_once() {
    let found: Vec<_> = cells().iter().map(|cell| (cell.hook, cell.kind)).collect();
    let kinds = FailureKind::ALL.map(FailureKind::as_str);
    let expected: Vec<_> = Hook::ALL.iter().flat_map(|hook| kinds.map(|kind| (hook.as_str(), kind))).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_policy_that_would_let_callers_in_or_records_out_is_refused() {
    let upstream = Upstream::start();
    let refused: Vec<Cell> = cells().into_iter().filter(|cell| cell.continued.is_none()).collect();
    let hooks: std::collections::BTreeSet<&str> = refused.iter().map(|cell| cell.hook).collect();
    assert_eq!(hooks.into_iter().collect::<Vec<_>>(), ["analytics", "auth"]);
    let mut builder = Gateway::with(api("well").upstream(&upstream));
    for cell in &refused {
        builder = builder.and(failing(&upstream, &format!("{}-{}", cell.hook, cell.kind), cell, true));
    }

    let problems = plugins(builder).try_start().await.err().expect("it does not start");

    for (index, cell) in refused.iter().enumerate() {
        let place = if cell.hook == "auth" { "auth" } else { "hooks.analytics[0]" };
        let problem = format!("apis[{}].{place}.on_failure: `continue` would make a failing plugin switch", index + 1);
        assert!(problems.contains(&problem), "{problem} is not in:\n{problems}");
    }
}

#[tokio::test]
async fn of_a_verdict_that_does_not_fit_the_request_nothing_is_applied() {
    let upstream = Upstream::start();
    // Too many variables for one request, after a header.
    let used = || plugin("moody").function("ask");
    let builder = Gateway::with(api("continue").upstream(&upstream).pre(used().or_continue()));
    let gateway = builder.and(api("reject").upstream(&upstream).pre(used())).grant("moody", ["kv"]).start().await;
    let ask = async |path: &str| gateway.get(path).header("x-mood", "vars").send().await.status();

    assert_eq!((ask("/continue/1").await, ask("/reject/1").await), (200, 500));

    assert_eq!((upstream.calls(), upstream.last().header("x-calls")), (1, None));
    let failures = gateway.metric("stile_plugin_call_failures_total", &[("kind", "bad_output")]);
    assert!((failures - 2.0).abs() < f64::EPSILON, "{failures}");
}
