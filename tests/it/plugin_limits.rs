//! Limits of plugins, to the unit: what is just allowed goes through and counts nowhere, one more is refused and counted.

use serde_json::{Value, json};
use stile_tests::{Api, Builder, Gateway, Upstream, api, guest, plugin};

/// An API whose plugin does something so often.
fn exact(upstream: &Upstream, what: &str, count: usize) -> Api {
    let plugin = plugin("exact").config(json!({ "what": what, "count": count }));
    api("orders").upstream(upstream).pre(plugin)
}

/// A gateway with it, under these limits. Neither fuel nor time is to bite unless they are meant.
fn gateway(upstream: &Upstream, what: &str, count: usize, limits: &Value) -> Builder {
    let mut all = json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 20_000 });
    for (key, value) in limits.as_object().expect("limits") {
        all[key] = value.clone();
    }
    Gateway::with(exact(upstream, what, count)).grant("exact", ["log", "kv"]).limits("exact", all)
}

/// So often or so much is fine; more fails in this way.
async fn fails(what: &str, limits: Value, below: usize, above: usize, kind: &str) {
    let upstream = Upstream::start();
    let failures = async |count| {
        let gateway = gateway(&upstream, what, count, &limits).start().await;
        let status = gateway.get("/orders/1").send().await.status();
        let failures = gateway.metric("stile_plugin_call_failures_total", &[("plugin", "exact")]);
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]), failures, "{what} {count}");
        (status, failures)
    };

    assert_eq!(failures(below).await, (200, 0.0), "{what} {below}");
    assert_eq!(failures(above).await, (500, 1.0), "{what} {above}");
}

/// Under the first limits the call is fine, under the others it fails in this way.
async fn turns(what: &str, count: usize, below: Value, above: Value, kind: &str) {
    let upstream = Upstream::start();
    for (limits, status, failures) in [(below, 200, 0.0), (above, 500, 1.0)] {
        let gateway = gateway(&upstream, what, count, &limits).start().await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{limits}");
        let counted = |labels: &[(&str, &str)]| gateway.metric("stile_plugin_call_failures_total", labels);
        assert_eq!((counted(&[("kind", kind)]), counted(&[])), (failures, failures), "{limits}");
    }
}

/// What the call costs in fuel under these limits, which is the same each time.
async fn fuel(what: &str, count: usize, limits: Value) -> u64 {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, what, count, &limits).start().await;
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    gateway.count("stile_plugin_call_fuel_sum", &[("plugin", "exact")])
}

/// What an instance has of memory after the call: the most that it had, for it never gives any back.
async fn memory(count: usize) -> u64 {
    let upstream = Upstream::start();
    let builder = gateway(&upstream, "memory", count, &json!({})).plugin("exact", "isolation", "reuse");
    let gateway = builder.start().await;
    assert_eq!(gateway.get("/orders/1").send().await.text(), "done");
    gateway.count("stile_plugin_memory_bytes", &[])
}

// limit: plugin_limits.fuel
#[tokio::test]
async fn a_call_has_so_much_fuel() {
    // Fuel is looked at where a function or a round of a loop begins: what comes after the last of them is not missed.
    let used = fuel("fuel", 10_000, json!({})).await;
    let upstream = Upstream::start();
    let (mut few, mut enough) = (used / 2, used);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        let gateway = gateway(&upstream, "fuel", 10_000, &json!({ "fuel": middle })).start().await;
        if gateway.get("/orders/1").send().await.status() == 200 { enough = middle } else { few = middle }
    }

    turns("fuel", 10_000, json!({ "fuel": enough }), json!({ "fuel": few }), "fuel").await;
}

// limit: plugin_limits.deadline_ms
#[tokio::test]
async fn a_call_has_so_much_time() {
    // A deadline is on the system's clock. The pause is five times one and a tenth of the other, or a busy machine would
    // fail this.
    turns("wait", 500, json!({ "deadline_ms": 5_000 }), json!({ "deadline_ms": 100 }), "deadline").await;
}

// limit: plugin_limits.memory_bytes_max
#[tokio::test]
async fn an_instance_has_so_much_memory() {
    let bytes = memory(4 << 20).await;
    let (below, above) = (json!({ "memory_bytes_max": bytes }), json!({ "memory_bytes_max": bytes - 1 }));
    turns("memory", 4 << 20, below, above, "memory").await;
}

// limit: plugin_limits.host_call_fuel
#[tokio::test]
async fn a_call_of_the_gateway_has_a_price() {
    let priced = |price: u64| json!({ "host_call_fuel": price, "host_calls_max": 500 });
    let (free, used) = (fuel("host_calls", 500, priced(0)).await, fuel("host_calls", 500, priced(100)).await);
    assert_eq!(used - free, 500 * 100);

    let (mut below, mut above) = (priced(100), priced(101));
    (below["fuel"], above["fuel"]) = (used.into(), used.into());
    turns("host_calls", 500, below, above, "fuel").await;
}

// limit: plugin_limits.host_call_fuel_per_byte
#[tokio::test]
async fn what_a_call_of_the_gateway_carries_has_a_price() {
    let priced = |price: u64| json!({ "host_call_fuel_per_byte": price });
    let (free, used) =
        (fuel("host_call_bytes", 5_000, priced(0)).await, fuel("host_call_bytes", 5_000, priced(10)).await);
    assert_eq!(used - free, 5_000 * 10);

    let (mut below, mut above) = (priced(10), priced(11));
    (below["fuel"], above["fuel"]) = (used.into(), used.into());
    turns("host_call_bytes", 5_000, below, above, "fuel").await;
}

// limit: plugin_limits.host_calls_max
#[tokio::test]
async fn a_call_may_call_the_gateway_so_often() {
    fails("host_calls", json!({ "host_calls_max": 50 }), 50, 51, "host_call").await;
}

// limit: plugin_limits.host_call_bytes_max
#[tokio::test]
async fn a_call_may_hand_over_so_many_bytes() {
    fails("host_call_bytes", json!({ "host_call_bytes_max": 5_000 }), 5_000, 5_001, "host_call").await;
}

// limit: plugin_limits.body_out_bytes_max
#[tokio::test]
async fn a_body_of_a_plugin_may_be_so_long() {
    fails("body_out", json!({ "body_out_bytes_max": 5_000 }), 5_000, 5_001, "bad_output").await;
}

// limit: plugin_limits.header_count_max
#[tokio::test]
async fn a_plugin_may_return_so_many_header_fields() {
    fails("header_count", json!({ "header_count_max": 20 }), 20, 21, "bad_output").await;
}

// limit: plugin_limits.header_bytes_max
#[tokio::test]
async fn header_fields_of_a_plugin_may_be_so_long() {
    fails("header_bytes", json!({ "header_bytes_max": 500 }), 500, 501, "bad_output").await;
}

// limit: plugin_limits.random_bytes_max
#[tokio::test]
async fn a_call_may_take_so_many_random_bytes() {
    let upstream = Upstream::start();
    for (bytes_max, status, failures) in [(16, 200, 0.0), (15, 500, 1.0)] {
        let gateway = gateway(&upstream, "random", 1, &json!({ "random_bytes_max": bytes_max })).start().await;

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{bytes_max}");
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "host_call")]), failures);
    }
}

/// So many lines or bytes are written; one more costs a line.
async fn drops(what: &str, key: &str) {
    let upstream = Upstream::start();
    for (count, dropped) in [(10, 0.0), (11, 1.0)] {
        let gateway = gateway(&upstream, what, count, &json!({ key: 10 })).start().await;

        assert_eq!(gateway.get("/orders/1").send().await.text(), "done");
        assert_eq!(gateway.metric("stile_plugin_log_lines_dropped_total", &[("plugin", "exact")]), dropped, "{count}");
    }
}

// limit: plugin_limits.log_lines_max
#[tokio::test]
async fn a_call_may_write_so_many_lines() {
    drops("log_lines", "log_lines_max").await;
}

// limit: plugin_limits.log_bytes_max
#[tokio::test]
async fn a_call_may_write_so_many_bytes_of_lines() {
    drops("log_bytes", "log_bytes_max").await;
}

/// So many are kept; one more is refused, and the plugin told.
async fn refuses(what: &str, limits: Value, below: usize, above: usize, error: &str, limit: &str) {
    let upstream = Upstream::start();
    for (count, text, refused) in [(below, "done", 0.0), (above, error, 1.0)] {
        let gateway = gateway(&upstream, what, count, &limits).start().await;

        assert_eq!(gateway.get("/orders/1").send().await.text(), text, "{what} {count}");
        assert_eq!(gateway.metric("stile_kv_refused_total", &[("limit", limit)]), refused, "{what} {count}");
        assert_eq!(gateway.metric("stile_kv_refused_total", &[]), refused, "{what} {count}");
    }
}

// limit: plugin_limits.kv_keys_max
#[tokio::test]
async fn a_plugin_may_keep_so_many_values() {
    refuses("kv_keys", json!({ "kv_keys_max": 10 }), 10, 11, "Error::Full", "kv_keys_max").await;
}

// limit: plugin_limits.kv_key_bytes_max
#[tokio::test]
async fn a_key_of_a_plugin_may_be_so_long() {
    let limits = json!({ "kv_key_bytes_max": 20 });
    refuses("kv_key_bytes", limits, 20, 21, "Error::KeyInvalid", "kv_key_bytes_max").await;
}

// limit: plugin_limits.kv_value_bytes_max
#[tokio::test]
async fn a_value_of_a_plugin_may_be_so_long() {
    let limits = json!({ "kv_value_bytes_max": 1_000 });
    refuses("kv_value_bytes", limits, 1_000, 1_001, "Error::ValueTooLarge", "kv_value_bytes_max").await;
}

// limit: plugin_limits.kv_bytes_max
#[tokio::test]
async fn values_of_a_plugin_may_be_so_large_in_all() {
    // The key has one byte, and each value counts 128 beside its own.
    let limits = json!({ "kv_bytes_max": 1_129 });
    refuses("kv_value_bytes", limits, 1_000, 1_001, "Error::Full", "kv_bytes_max").await;
}

// limit: runtime.kv_bytes_max
#[tokio::test]
async fn values_of_all_plugins_may_be_so_large() {
    let upstream = Upstream::start();
    for (count, text, refused) in [(1_000, "done", 0.0), (1_001, "Error::Full", 1.0)] {
        let builder = gateway(&upstream, "kv_value_bytes", count, &json!({})).set("/runtime/kv_bytes_max", 1_129);
        let gateway = builder.start().await;

        assert_eq!(gateway.get("/orders/1").send().await.text(), text);
        assert_eq!(gateway.metric("stile_kv_refused_total", &[]), refused);
    }
}

// limit: plugin_limits.concurrency_max
#[tokio::test]
async fn a_plugin_may_be_called_so_often_at_one_time() {
    let upstream = Upstream::start();
    for (calls, busy) in [(2, 0.0), (3, 1.0)] {
        let limits = json!({ "concurrency_max": 2, "instance_wait_ms": 0 });
        let gateway = gateway(&upstream, "wait", 1_000, &limits).start().await;

        let calls: Vec<_> = (0..calls).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.expect("no panic").status());
        }

        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "busy")]), busy);
    }
}

// limit: plugin_limits.instance_wait_ms
#[tokio::test]
async fn a_call_waits_so_long_for_its_turn() {
    let upstream = Upstream::start();
    // The other call takes half a second, a tenth of one limit and ten times the other: time is the system's.
    for (wait_ms, busy) in [(5_000, 0.0), (50, 1.0)] {
        let limits = json!({ "concurrency_max": 1, "instance_wait_ms": wait_ms });
        let gateway = gateway(&upstream, "wait", 500, &limits).start().await;

        let calls: Vec<_> = (0..2).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
        for call in calls {
            assert!(matches!(call.await.expect("no panic").status(), 200 | 503));
        }

        assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "busy")]), busy, "{wait_ms}");
    }
}

// limit: plugin_limits.body_in_bytes_max
#[tokio::test]
async fn a_body_for_a_plugin_may_be_so_long() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).pre(plugin("probe").function("everything"));
    let builder = Gateway::with(definition).grant("probe", ["upstream", "session-limits"]);
    let gateway = builder.limits("probe", json!({ "body_in_bytes_max": 100 })).start().await;
    let refused = || gateway.metric("stile_refusals_total", &[("reason", "request_too_large")]);

    assert_eq!(gateway.post("/orders/1", vec![b'x'; 100]).send().await.status(), 200);
    assert_eq!(refused(), 0.0);
    assert_eq!(gateway.post("/orders/1", vec![b'x'; 101]).send().await.status(), 413);
    assert_eq!(refused(), 1.0);
}

// limit: plugin_limits.file_bytes_max
#[tokio::test]
async fn a_file_may_be_so_large() {
    let upstream = Upstream::start();
    let bytes = std::fs::metadata(guest("hello")).expect("it is there").len();
    for (bytes_max, status, failures) in [(bytes, 200, 0.0), (bytes - 1, 503, 1.0)] {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("hello"));
        let gateway =
            builder.limits("hello", json!({ "file_bytes_max": bytes_max })).try_start().await.expect("it starts");

        assert_eq!(gateway.get("/orders/1").send().await.status(), status);
        assert_eq!(gateway.metric("stile_plugin_load_failures_total", &[("plugin", "hello")]), failures);
    }
}

// limit: plugin_limits.table_elements_max
#[tokio::test]
async fn an_instance_has_so_many_elements_of_tables() {
    let upstream = Upstream::start();
    let loads = async |elements_max: u64| {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("hello"));
        let limits = json!({ "table_elements_max": elements_max });
        let gateway = builder.limits("hello", limits).try_start().await.expect("it starts");
        let failures = gateway.metric("stile_plugin_load_failures_total", &[("plugin", "hello")]);
        (gateway.get("/orders/1").send().await.status(), failures)
    };
    // How many it needs is a matter of its compiler.
    let (mut few, mut enough) = (1, 1_000);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        if loads(middle).await.0 == 200 { enough = middle } else { few = middle }
    }

    assert_eq!(loads(enough).await, (200, 0.0), "{enough}");
    assert_eq!(loads(few).await, (503, 1.0), "{few}");
}

// limit: runtime.instance_memory_bytes_max
#[tokio::test]
async fn no_plugin_may_name_more_memory_than_an_instance_may_have() {
    let upstream = Upstream::start();
    let bytes_max = 8 << 20;
    let builder = gateway(&upstream, "memory", 1 << 20, &json!({ "memory_bytes_max": bytes_max }));
    let gateway =
        builder.set("/runtime/instance_memory_bytes_max", bytes_max).set("/reload/watch", false).start().await;
    let refused = || gateway.metric("stile_reloads_total", &[("result", "refused")]);

    for (bytes, status, counted) in [(bytes_max - 1, 200, 0.0), (bytes_max, 200, 0.0), (bytes_max + 1, 422, 1.0)] {
        let mut definition = gateway.definition();
        definition["plugins"]["exact"]["limits"]["memory_bytes_max"] = bytes.into();
        gateway.define(&definition);
        let reply = gateway.manage("POST", "/stile/reload").send().await;
        assert_eq!((reply.status(), refused()), (status, counted), "{bytes}: {}", reply.text());
        assert_eq!(gateway.get("/orders/1").send().await.text(), "done");
    }
}

// limit: analytics.batch_max
#[tokio::test]
async fn a_plugin_is_handed_so_many_records_at_one_time() {
    let upstream = Upstream::start();
    let waits = plugin("exact").config(json!({ "what": "wait", "count": 500 }));
    for (batch_max, calls) in [(4, 2.0), (3, 3.0)] {
        let definition = api("orders").upstream(&upstream).recorded().analytics(waits.clone());
        let builder = Gateway::with(definition).recording().set("/analytics/batch_max", batch_max);
        let builder = builder.grant("exact", ["log", "kv"]).limits("exact", json!({ "deadline_ms": 20_000 }));
        let gateway = builder.start().await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        gateway.metric_becomes("stile_plugin_slots_in_use", &[], 1.0).await;
        // While the plugin waits with the first.
        for _ in 0..4 {
            assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        }

        assert_eq!(gateway.records(5).await.len(), 5);
        assert_eq!(gateway.metric("stile_plugin_calls_total", &[("plugin", "exact")]), calls, "{batch_max}");
    }
}

// limit: analytics.queue_max
#[tokio::test]
async fn so_many_records_wait_for_a_plugin() {
    let upstream = Upstream::start();
    let waits = plugin("exact").config(json!({ "what": "wait", "count": 1_000 }));
    for (records, dropped) in [(3, 0.0), (4, 1.0)] {
        let definition = api("orders").upstream(&upstream).recorded().analytics(waits.clone());
        let builder = Gateway::with(definition).recording().set("/analytics/queue_max", 3);
        let builder = builder.set("/analytics/batch_max", 1).grant("exact", ["log", "kv"]);
        let gateway = builder.limits("exact", json!({ "deadline_ms": 20_000 })).start().await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        gateway.metric_becomes("stile_plugin_slots_in_use", &[], 1.0).await;
        // While the plugin waits with the first.
        for _ in 0..records {
            assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        }

        let labels = [("api", "orders"), ("reason", "queue")];
        gateway.metric_becomes("stile_analytics_records_dropped_total", &labels, dropped).await;
        assert_eq!(gateway.records(4).await.len(), 4, "{records}");
    }
}

// limit: plugins.*.reuse_calls_max
#[tokio::test]
async fn an_instance_serves_so_many_calls() {
    let upstream = Upstream::start();
    let builder = gateway(&upstream, "host_calls", 1, &json!({})).plugin("exact", "isolation", "reuse");
    let gateway = builder.plugin("exact", "reuse_calls_max", 3).start().await;
    let retired = || gateway.metric("stile_plugin_instances_retired_total", &[]);
    let call = async || assert_eq!(gateway.get("/orders/1").send().await.text(), "done");

    call().await;
    call().await;
    assert_eq!(retired(), 0.0);
    call().await;
    assert_eq!(retired(), 1.0);
}

// limit: plugins.*.reuse_memory_high_water_bytes
#[tokio::test]
async fn an_instance_that_grew_too_large_is_retired() {
    let upstream = Upstream::start();
    let bytes = memory(1 << 20).await;
    for (high_water, retired) in [(bytes, 0.0), (bytes - 1, 1.0)] {
        let builder = gateway(&upstream, "memory", 1 << 20, &json!({})).plugin("exact", "isolation", "reuse");
        let gateway = builder.plugin("exact", "reuse_memory_high_water_bytes", high_water).start().await;

        assert_eq!(gateway.get("/orders/1").send().await.text(), "done");
        assert_eq!(gateway.metric("stile_plugin_instances_retired_total", &[]), retired, "{high_water}");
    }
}
