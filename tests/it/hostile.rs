//! What plugins that attack cost others, and what they are charged. What each attack comes to is in the corpus.

use serde_json::{Value, json};
use stile_tests::{Api, Gateway, Upstream, api, plugin};

/// Enough for a hundred thousand readings of the clock, were they free.
const CLOCK_LOOP_FUEL: u64 = 30_000_000;

/// An API whose `pre` is under this attack of `tests/plugins/hostile`.
fn attacked(upstream: &Upstream, id: &str, attack: &str) -> Api {
    api(id).upstream(upstream).pre(plugin("hostile").function("attack").config(json!({ "attack": attack })))
}

#[tokio::test]
async fn a_neighbour_is_served_while_plugins_spin() {
    let upstream = Upstream::start();
    let definition = attacked(&upstream, "orders", "spin_on");
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
    let definition = attacked(&upstream, "orders", "sleep");
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
        let builder = Gateway::with(attacked(&upstream, "orders", attack)).grant("hostile", ["log", "kv"]);
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
    let builder = Gateway::with(attacked(upstream, "orders", attack)).grant("hostile", ["log", "kv"]);
    builder.limits("hostile", limits).start().await
}

#[tokio::test]
async fn a_plugin_that_works_and_then_sleeps_keeps_no_core() {
    let upstream = Upstream::start();
    let spins = plugin("spins").function("attack").config(json!({ "attack": "spin" }));
    let builder = Gateway::with(attacked(&upstream, "asleep", "hold"));
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

/// What a call costs that has this function of `wasi:http` carry 10,000 bytes 50 times.
async fn carried(function: &str, price: u64) -> f64 {
    let upstream = Upstream::start();
    let carries =
        plugin("field-names").function("attack").config(json!({ "function": function, "bytes": 10_000, "times": 50 }));
    let limits = json!({ "fuel": 1_000_000_000, "deadline_ms": 20_000, "host_call_fuel_per_byte": price });
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre(carries))
        .grant("field-names", ["outgoing-http"])
        .plugin("field-names", "outgoing_http", json!({ "allow": ["http://a.test"] }))
        .limits("field-names", limits)
        .start()
        .await;

    assert_eq!(gateway.get("/orders/1").send().await.status(), 200, "{function}");
    gateway.metric("stile_plugin_call_fuel_sum", &[("api", "orders")])
}

#[tokio::test]
async fn what_calls_of_wasi_http_carry_costs_by_the_byte() {
    let there = ["has", "get", "delete", "set", "append", "from list"];
    let there = there.into_iter().chain(["set authority", "set path", "set method", "set scheme"]);
    for function in there.chain(["get back", "entries", "clone", "authority"]) {
        let bytes = carried(function, 1).await - carried(function, 0).await;

        // And what is around them.
        assert!((500_000.0..550_000.0).contains(&bytes), "{function}: {bytes}");
    }
}

#[tokio::test]
async fn clocks_and_pauses_of_a_plugin_are_coarse() {
    let upstream = Upstream::start();
    for grain_ms in [1, 20] {
        let limits = json!({
            "fuel": 1_000_000_000_000_u64, "deadline_ms": 20_000, "clock_grain_us": grain_ms * 1_000, "host_calls_max": 10_000_000
        });
        let gateway = limited(&upstream, "measure", limits).await;

        let reply = gateway.get("/orders/1").send().await;

        let text = reply.text();
        let steps: Vec<u64> = text.split(' ').map(|step| step.parse().expect("nanoseconds")).collect();
        assert_eq!(steps.len(), 4, "{text}");
        for step in steps {
            assert!(step >= grain_ms * 1_000_000 && step % (grain_ms * 1_000_000) == 0, "{grain_ms} ms: {text}");
        }
    }
}
