//! What all plugins together may use, and that no plugin takes it all from the others.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile_tests::{Api, Builder, Gateway, Upstream, api, guest, plugin};

/// An API whose `pre` plugin of this name attacks so.
fn attacked(upstream: &Upstream, name: &str, attack: &str) -> Api {
    api(name).upstream(upstream).pre(plugin(name).function("attack").config(json!({ "attack": attack })))
}

/// A gateway with a calm API and these plugins, all of them hostile in one way, within their own limits.
fn gateway(upstream: &Upstream, names: &[&str], attack: &str, limits: &Value) -> Builder {
    let builder = Gateway::with(api("calm").upstream(upstream).pre("hello"));
    let hostile = guest("hostile").display().to_string();
    names.iter().fold(builder, |builder, name| {
        let builder = builder.and(attacked(upstream, name, attack)).grant(name, ["log", "kv"]);
        builder.plugin(name, "file", hostile.as_str()).limits(name, limits.clone())
    })
}

/// Calls each of the APIs so many times, all at one time. How many calls failed in each of these ways.
async fn failures<const N: usize>(gateway: &Gateway, names: &[&str], calls: usize, kinds: [&str; N]) -> [f64; N] {
    let paths = names.iter().flat_map(|name| std::iter::repeat_n(format!("/{name}/1"), calls));
    let calls: Vec<_> = paths.map(|path| tokio::spawn(gateway.get(&path).send())).collect();
    for call in calls {
        assert!(matches!(call.await.expect("no panic").status(), 500 | 503));
    }
    assert_eq!(gateway.get("/calm/1").send().await.status(), 200, "afterwards");
    kinds.map(|kind| gateway.metric("stile_plugin_call_failures_total", &[("kind", kind)]))
}

// limit: runtime.instances_max
#[tokio::test]
async fn many_plugins_within_their_own_limits_share_the_instances_of_the_gateway() {
    let upstream = Upstream::start();
    let names = ["one", "two", "three", "four"];
    let limits = json!({ "deadline_ms": 1_500, "concurrency_max": 4, "instance_wait_ms": 10 });
    let builder = gateway(&upstream, &names, "sleep", &limits).set("/runtime/instances_max", 8);
    let gateway = builder.start().await;
    assert_eq!(gateway.metric("stile_plugin_slots", &[]), 8.0);

    assert_eq!(failures(&gateway, &names[..2], 4, ["deadline", "busy"]).await, [8.0, 0.0]);
    assert_eq!(failures(&gateway, &names, 4, ["deadline", "busy"]).await, [16.0, 8.0]);
}

// limit: runtime.memory_bytes_max
#[tokio::test]
async fn many_plugins_within_their_own_limits_share_the_memory_of_the_gateway() {
    let upstream = Upstream::start();
    let names = ["one", "two"];
    let limits = json!({ "deadline_ms": 2_000, "fuel": 1_000_000_000 });
    // Each call holds sixteen mebibytes and a little.
    let builder = gateway(&upstream, &names, "hold", &limits).set("/runtime/memory_bytes_max", 60 << 20);
    let gateway = builder.start().await;
    let refused = || gateway.metric("stile_plugin_memory_refused_total", &[]);

    assert_eq!(failures(&gateway, &names, 1, ["deadline", "memory"]).await, [2.0, 0.0]);
    assert_eq!(refused(), 0.0);
    // All of it comes back, though not at once.
    gateway.metric_becomes("stile_plugin_memory_bytes", &[], 0.0).await;
    gateway.metric_becomes("stile_plugin_slots_in_use", &[], 0.0).await;
    assert_eq!(failures(&gateway, &names, 2, ["deadline", "memory"]).await, [5.0, 1.0]);
    assert!(refused() >= 1.0);
    assert_eq!(gateway.metric("stile_plugin_memory_bytes", &[]), 0.0, "all of it is given back");
}

// limit: runtime.plugin_share_percent
#[tokio::test]
async fn one_plugin_does_not_take_all_instances() {
    let upstream = Upstream::start();
    for (percent, busy) in [(75, 14.0), (100, 12.0)] {
        let limits = json!({ "deadline_ms": 2_000, "concurrency_max": 256, "instance_wait_ms": 10 });
        let builder = gateway(&upstream, &["greedy"], "sleep", &limits).set("/runtime/instances_max", 8);
        let gateway = builder.set("/runtime/plugin_share_percent", percent).start().await;

        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(gateway.get("/greedy/1").send())).collect();
        gateway.metric_becomes("stile_plugin_call_failures_total", &[("kind", "busy")], busy).await;
        // The others are asleep now.
        let neighbour = gateway.get("/calm/1").send().await.status();

        assert_eq!(neighbour, if percent == 100 { 503 } else { 200 });
        for call in calls {
            assert!(matches!(call.await.expect("no panic").status(), 500 | 503));
        }
    }
}

#[tokio::test]
async fn one_plugin_does_not_take_all_memory() {
    let upstream = Upstream::start();
    for (percent, held) in [(75, 2.0), (100, 3.0)] {
        let limits = json!({ "deadline_ms": 2_000, "fuel": 1_000_000_000 });
        let builder = gateway(&upstream, &["greedy"], "hold", &limits).set("/runtime/memory_bytes_max", 60 << 20);
        let gateway = builder.set("/runtime/plugin_share_percent", percent).start().await;

        assert_eq!(failures(&gateway, &["greedy"], 3, ["deadline", "memory"]).await, [held, 3.0 - held], "{percent}");
    }
}

/// What became of a call whose plugin takes handles of this kind, or lets go of them, of so much memory: its status, and
/// whether there was too little.
async fn hoarded(of: Option<&str>, memory_bytes_max: u64) -> (u16, bool) {
    let upstream = Upstream::start();
    let hoards = plugin("handles").function("attack").config(json!({ "of": of }));
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre(hoards))
        .grant("handles", ["outgoing-http"])
        .plugin("handles", "outgoing_http", json!({ "allow": ["http://a.test"] }))
        .limits("handles", json!({ "fuel": 1_000_000_000, "deadline_ms": 20_000 }))
        .set("/runtime/memory_bytes_max", memory_bytes_max)
        .start()
        .await;

    let status = gateway.get("/orders/1").send().await.status();

    let is_refused = gateway.metric("stile_plugin_call_failures_total", &[("kind", "memory")]) > 0.0;
    assert_eq!(gateway.metric("stile_plugin_memory_refused_total", &[]) > 0.0, is_refused, "{of:?}");
    gateway.metric_becomes("stile_plugin_memory_bytes", &[], 0.0).await;
    (status, is_refused)
}

#[tokio::test]
async fn what_is_behind_handles_is_memory_of_the_gateway() {
    // The plugin's own memory is no more than two mebibytes; there are handles for four and more.
    for of in ["fields", "clones", "authorities", "bodies"] {
        assert_eq!(hoarded(Some(of), 64 << 20).await, (500, false), "{of}");
        assert_eq!(hoarded(Some(of), 3 << 20).await, (500, true), "{of}");
    }
    assert_eq!(hoarded(None, 3 << 20).await, (200, false));
}

#[tokio::test]
async fn a_plugin_that_was_refused_memory_is_told_which_limit_it_was() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_800_000_000_000));
    let hoards = plugin("handles").function("attack").config(json!({ "of": "fields" }));
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre(hoards))
        .grant("handles", ["outgoing-http"])
        .plugin("handles", "outgoing_http", json!({ "allow": ["http://a.test"] }))
        .limits("handles", json!({ "fuel": 1_000_000_000, "deadline_ms": 20_000, "memory_bytes_max": 3 << 20 }))
        .plugin("handles", "quarantine", json!({ "failures_max": 1 }))
        .clock(&clock)
        .start()
        .await;

    for _ in 0..2 {
        assert_eq!(gateway.get("/orders/1").send().await.status(), 500);
        clock.advance(Duration::from_secs(1));
    }

    let told = gateway.manage("GET", "/stile/plugins").send().await.json()[0]["quarantine"].clone();
    assert_eq!(told["kind"], "memory");
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("it was refused what is beyond `memory_bytes_max`"), "{told}");
}
