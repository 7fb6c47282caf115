//! Plugins that attack: each comes to what `tests/data/hostile.txt` says, in time, and the next caller is served.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stile_tests::{Api, Gateway, Upstream, api, plugin};

/// A line of the table, for one hook.
struct Expected {
    hook: &'static str,
    status: u16,
    /// `None` where the attack is no failure.
    failure: Option<&'static str>,
}

const TABLE: &str = include_str!("../data/hostile.txt");
const REQUEST_HOOKS: [&str; 4] = ["pre", "post_auth", "endpoint", "post"];

/// The table by attack.
fn table() -> BTreeMap<&'static str, Vec<Expected>> {
    let mut table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let [attack, hook, status, failure] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not four columns");
        };
        let hooks = if hook == "request" { REQUEST_HOOKS.to_vec() } else { vec![hook] };
        let failure = Some(failure).filter(|failure| *failure != "-");
        let status = status.parse().expect("a status");
        table.entry(attack).or_default().extend(hooks.into_iter().map(|hook| Expected { hook, status, failure }));
    }
    table
}

/// The plugin's limits: neither fuel nor time is to hide what the attack is about, not even in a debug build.
fn limits(attack: &str) -> Value {
    let fuel: u64 = match attack {
        "spin" => 2_000_000,
        "clock_loop" => CLOCK_LOOP_FUEL,
        _ => 1_000_000_000_000,
    };
    json!({ "fuel": fuel, "deadline_ms": deadline_ms(attack) })
}

fn deadline_ms(attack: &str) -> u32 {
    match attack {
        "spin_on" | "sleep" => 100,
        "hold" => 500,
        _ => 2_000,
    }
}

/// Enough for a hundred thousand readings of the clock, were they free.
const CLOCK_LOOP_FUEL: u64 = 30_000_000;

fn attacked(upstream: &Upstream, id: &str, hook: &str, attack: &str, goes_on: bool) -> Api {
    let hostile = plugin("hostile").function("attack").config(json!({ "attack": attack }));
    let hostile = if goes_on { hostile.or_continue() } else { hostile };
    api(id).upstream(upstream).set("/analytics/enabled", hook == "analytics").hook(hook, hostile)
}

/// Every hook under one attack: its answer, its counter, its time, and whether others are served after it.
async fn check(attack: &str) {
    let expected = table().remove(attack).unwrap_or_else(|| panic!("`{attack}` is not in the table"));
    let upstream = Upstream::start();
    let mut builder = Gateway::with(api("calm").upstream(&upstream).pre("hello"));
    for Expected { hook, .. } in &expected {
        builder = builder.and(attacked(&upstream, &format!("reject-{hook}"), hook, attack, false));
        if may_continue(hook) {
            builder = builder.and(attacked(&upstream, &format!("continue-{hook}"), hook, attack, true));
        }
    }
    let gateway = builder.grant("hostile", ["log", "kv"]).limits("hostile", limits(attack)).recording().start().await;

    for Expected { hook, status, failure } in expected {
        let ways = [("reject", status), ("continue", 200)];
        for (way, status) in ways.into_iter().take(if may_continue(hook) { 2 } else { 1 }) {
            let id = format!("{way}-{hook}");
            let reply = gateway.get(&format!("/{id}/1")).header("authorization", "key").send().await;

            assert_eq!(reply.status(), status, "{attack} in {id}: {}", reply.text());
            assert!(!reply.text().contains("nobody"), "the plugin's words are not the caller's to read");
            if let Some(kind) = failure {
                let labels = [("api", id.as_str()), ("hook", hook), ("plugin", "hostile"), ("kind", kind)];
                gateway.metric_becomes("stile_plugin_call_failures_total", &labels, 1.0).await;
            } else {
                gateway.metric_becomes("stile_plugin_calls_total", &[("api", &id), ("hook", hook)], 1.0).await;
            }
            let failures = gateway.metric("stile_plugin_call_failures_total", &[("api", &id)]);
            assert_eq!(
                failures,
                if failure.is_some() { 1.0 } else { 0.0 },
                "{attack} in {id}\n{}",
                gateway.page().counted("stile_plugin_call_failures_total")
            );
            let continued = gateway.metric("stile_plugin_calls_continued_total", &[("api", &id)]);
            assert_eq!(continued, if way == "continue" { failures } else { 0.0 }, "{attack} in {id}");
            in_time(&gateway, attack, &id);
            let lost = gateway.metric("stile_analytics_records_dropped_total", &[("api", &id), ("reason", "plugin")]);
            assert_eq!(lost, if hook == "analytics" { failures } else { 0.0 }, "{attack} in {id}");

            assert_eq!(gateway.get("/calm/1").send().await.status(), 200, "after {attack} in {id}");
        }
    }
}

/// The call, measured from inside, ended by its deadline and a little: the rest is a busy machine's.
fn in_time(gateway: &Gateway, attack: &str, id: &str) {
    const NOISE: f64 = 2.0;
    let seconds = gateway.metric("stile_plugin_call_seconds_sum", &[("api", id)]);
    let seconds_max = (f64::from(deadline_ms(attack)) / 1e3 + 0.05) * NOISE;
    assert!(seconds < seconds_max, "{attack} in {id} took {seconds} s");
}

fn may_continue(hook: &str) -> bool {
    !matches!(hook, "auth" | "analytics")
}

macro_rules! attacks {
    ($($test:ident: $attack:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                check($attack).await;
            }
        )*

        #[test]
        fn every_attack_of_the_table_is_tried() {
            let tried = [$($attack),*];
            assert_eq!(table().into_keys().filter(|attack| !tried.contains(attack)).collect::<Vec<_>>(), [""; 0]);
        }
    };
}

attacks! {
    a_plugin_that_spins_runs_out_of_fuel: "spin";
    a_plugin_that_spins_with_fuel_to_spare_ends_at_its_deadline: "spin_on";
    a_plugin_that_sleeps_ends_at_its_deadline: "sleep";
    a_plugin_that_takes_all_memory_ends_at_its_limit: "allocate";
    a_plugin_that_recurses_for_ever_traps: "recurse";
    a_plugin_that_panics_traps: "panic";
    a_plugin_that_exits_takes_nobody_along: "exit";
    a_plugin_that_says_it_failed_is_counted_apart: "err";
    a_plugin_that_calls_the_host_too_often_is_ended: "host_calls";
    a_plugin_that_calls_the_host_in_a_loop_is_out_of_fuel: "clock_loop";
    a_plugin_that_sits_on_memory_ends_at_its_deadline: "hold";
    a_plugin_that_hands_the_host_too_much_is_ended: "host_call_bytes";
    a_plugin_that_logs_a_giant_line_is_ended: "log_shout";
    a_plugin_that_floods_the_log_loses_lines: "log_flood";
    a_plugin_that_floods_its_output_loses_it: "print_flood";
    an_answer_that_claims_a_gigabyte_is_refused: "giant_answer";
    an_answer_that_counts_its_memory_many_times_is_refused: "aliased_answer";
    a_body_one_byte_too_long_is_refused: "body_over_limit";
    a_line_break_in_a_header_is_refused: "crlf";
    a_hundred_thousand_headers_are_refused: "many_headers";
    a_header_name_with_a_space_is_refused: "bad_name";
    a_text_that_is_not_utf8_is_refused: "not_utf8";
    a_status_that_is_none_is_refused: "bad_status";
    a_field_of_the_connection_is_refused: "connection_field";
    a_path_without_slash_is_refused: "bad_path";
    the_method_connect_is_refused: "connect";
}

#[tokio::test]
async fn dropped_log_lines_are_counted() {
    let upstream = Upstream::start();
    let definition = attacked(&upstream, "orders", "pre", "log_flood", false);
    let gateway = Gateway::with(definition).grant("hostile", ["log", "kv"]).start().await;

    gateway.get("/orders/1").send().await;

    let dropped = gateway.metric("stile_plugin_log_lines_dropped_total", &[("api", "orders"), ("hook", "pre")]);
    assert_eq!(dropped, 80.0);
}

#[tokio::test]
async fn a_neighbour_is_served_while_plugins_spin() {
    let upstream = Upstream::start();
    let definition = attacked(&upstream, "orders", "pre", "spin_on", false);
    let gateway = Gateway::with(definition).and(api("calm").upstream(&upstream).pre("hello"));
    let limits = json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 1_500 });
    let gateway = gateway.grant("hostile", ["log", "kv"]).limits("hostile", limits).start().await;

    let spinning: Vec<_> = (0..4).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
    let mut served = 0;
    while !spinning.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(gateway.get("/calm/1").send().await.status(), 200);
        served += 1;
    }

    for spun in spinning {
        assert_eq!(spun.await.expect("no panic").status(), 500);
    }
    // A core that is held until each call's deadline would serve one in between, five in all.
    assert!(served > 10, "only {served} requests of the neighbour in 1,500 ms");
}

#[tokio::test]
async fn a_call_that_finds_no_instance_in_time_is_busy() {
    let upstream = Upstream::start();
    let definition = attacked(&upstream, "orders", "pre", "sleep", false);
    let limits = json!({ "deadline_ms": 500, "concurrency_max": 1, "instance_wait_ms": 10 });
    let gateway = Gateway::with(definition).grant("hostile", ["log", "kv"]).limits("hostile", limits).start().await;

    let calls: Vec<_> = (0..2).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
    let mut statuses = Vec::new();
    for call in calls {
        let reply = call.await.expect("no panic");
        assert_eq!(reply.header("retry-after").is_some(), reply.status() == 503);
        statuses.push(reply.status());
    }

    statuses.sort_unstable();
    assert_eq!(statuses, [500, 503]);
    for kind in ["busy", "deadline"] {
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]), 1.0, "{kind}");
    }
}

#[tokio::test]
async fn an_instance_that_failed_is_never_used_again() {
    let upstream = Upstream::start();
    // `err` is an answer like any other; a trap and an invalid answer are not.
    for (attack, kind, is_kept) in
        [("err", "plugin_error", true), ("panic", "trap", false), ("crlf", "bad_output", false)]
    {
        let builder =
            Gateway::with(attacked(&upstream, "orders", "pre", attack, false)).grant("hostile", ["log", "kv"]);
        let gateway = builder.plugin("hostile", "isolation", "reuse").start().await;
        let reused = |gateway: &Gateway| {
            let page = gateway.page();
            // One of the two names is there.
            page.sum("stile_plugin_instances_reused_total", &[])
                + page.sum("stile_stile_plugin_instances_reused_total", &[])
        };

        for _ in 0..3 {
            assert_eq!(gateway.get("/orders/1").send().await.status(), 500, "{attack}");
        }

        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]), 3.0, "{attack}");
        assert_eq!(reused(&gateway) > 0.0, is_kept, "{attack}: {}", reused(&gateway));
    }
}

/// A gateway where `pre` is under this attack, with these limits.
async fn limited(upstream: &Upstream, attack: &str, limits: Value) -> Gateway {
    let builder = Gateway::with(attacked(upstream, "orders", "pre", attack, false)).grant("hostile", ["log", "kv"]);
    builder.limits("hostile", limits).start().await
}

#[tokio::test]
async fn a_plugin_that_works_and_then_sleeps_keeps_no_core() {
    let upstream = Upstream::start();
    let spins = plugin("spins").function("attack").config(json!({ "attack": "spin" }));
    let builder = Gateway::with(attacked(&upstream, "asleep", "pre", "hold", false));
    let builder = builder.and(api("awake").upstream(&upstream).pre(spins)).grant("hostile", ["log", "kv"]);
    let builder = builder.plugin("spins", "file", stile_tests::guest("hostile").display().to_string());
    // Either takes many slices of the core, one of them before it sleeps.
    let builder =
        builder.grant("spins", ["log", "kv"]).limits("spins", json!({ "fuel": 50_000_000, "deadline_ms": 9_000 }));
    let gateway = builder.limits("hostile", json!({ "fuel": 1_000_000_000, "deadline_ms": 10_000 })).start().await;

    let asleep = tokio::spawn(gateway.get("/asleep/1").send());
    while gateway.metric("stile_plugin_memory_bytes", &[]) < f64::from(16 << 20) {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.get("/awake/1").send().await.status(), 500);

    assert!(!asleep.is_finished(), "it waited for the one that is asleep");
    assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "fuel")]), 1.0);
    asleep.abort();
}

// limit: plugin_limits.host_call_fuel
#[tokio::test]
async fn a_loop_of_host_calls_costs_what_they_cost() {
    let upstream = Upstream::start();
    for (price, status, failures) in [(0, 200, 0.0), (1_000, 500, 1.0)] {
        let limits = json!({ "fuel": CLOCK_LOOP_FUEL, "deadline_ms": 20_000, "host_call_fuel": price });
        let gateway = limited(&upstream, "clock_loop", limits).await;

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{price}");
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "fuel")]), failures, "{price}");
        let fuel = gateway.metric("stile_plugin_call_fuel_sum", &[("api", "orders")]);
        assert!(fuel <= CLOCK_LOOP_FUEL as f64, "{fuel}");
    }
}

// limit: plugin_limits.host_call_fuel_per_byte
#[tokio::test]
async fn what_host_calls_carry_costs_by_the_byte() {
    let upstream = Upstream::start();
    // The plugin stores 65 times 64 KiB, which is more than four million bytes.
    for (price, status, failures) in [(1, 200, 0.0), (1_000, 500, 1.0)] {
        let limits = json!({
            "fuel": 1_000_000_000, "deadline_ms": 20_000, "host_call_fuel_per_byte": price, "host_call_bytes_max": 8 << 20
        });
        let gateway = limited(&upstream, "host_call_bytes", limits).await;

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{price}");
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "fuel")]), failures, "{price}");
    }
}

// limit: plugin_limits.clock_grain_us
#[tokio::test]
async fn clocks_and_pauses_of_a_plugin_are_coarse() {
    let upstream = Upstream::start();
    for grain_ms in [1, 20] {
        let limits =
            json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 20_000, "clock_grain_us": grain_ms * 1_000 });
        let gateway = limited(&upstream, "measure", limits).await;

        let reply = gateway.get("/orders/1").send().await;

        let text = reply.text();
        let steps: Vec<u64> = text.split(' ').map(|step| step.parse().expect("nanoseconds")).collect();
        assert_eq!(steps.len(), 3, "{text}");
        for step in steps {
            assert!(step >= grain_ms * 1_000_000 && step % (grain_ms * 1_000_000) == 0, "{grain_ms} ms: {text}");
        }
    }
}
