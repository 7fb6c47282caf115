//! What all plugins together may use, and that no plugin takes it all from the others.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile_tests::{Api, Builder, Gateway, Upstream, api, guest, plugin};
use wasm_encoder::{
    ComponentInstanceSection, ComponentSection as _, ComponentSectionId, InstanceSection, Module, ModuleSection,
    RawSection,
};

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
    let held = |bytes_max: u64| gateway(&upstream, &names, "hold", &limits).set("/runtime/memory_bytes_max", bytes_max);
    let all = {
        let gateway = held(60 << 20).start().await;
        let calls: Vec<_> = names.iter().map(|name| tokio::spawn(gateway.get(&format!("/{name}/1")).send())).collect();
        let mut most = 0;
        while !calls.iter().all(tokio::task::JoinHandle::is_finished) {
            most = gateway.count("stile_plugin_memory_bytes", &[]).max(most);
            tokio::task::yield_now().await;
        }
        most
    };
    assert!(all > 32 << 20, "each call holds sixteen mebibytes and a little: {all}");
    for (bytes_max, ended) in [(all, [2.0, 0.0]), (all - 1, [1.0, 1.0])] {
        let gateway = held(bytes_max).start().await;

        assert_eq!(failures(&gateway, &names, 1, ["deadline", "memory"]).await, ended, "{bytes_max}");
        // How often it asks before it gives up is the plugin's matter.
        let refused = gateway.metric("stile_plugin_memory_refused_total", &[]);
        assert_eq!(refused > 0.0, ended[1] > 0.0, "{bytes_max}: {refused}");
        // All of it comes back, though not at once.
        gateway.metric_becomes("stile_plugin_memory_bytes", &[], 0.0).await;
        gateway.metric_becomes("stile_plugin_slots_in_use", &[], 0.0).await;
        assert_eq!(failures(&gateway, &names[..1], 1, ["deadline"]).await, [ended[0] + 1.0], "{bytes_max}");
    }
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

// limit: plugin::host::RESOURCES_MAX
#[tokio::test]
async fn a_call_has_so_many_handles_of_the_host() {
    let upstream = Upstream::start();
    // With one that it takes first.
    for (count, status, failures) in [(255, 200, 0.0), (256, 500, 1.0)] {
        let hoards = plugin("handles").function("attack").config(json!({ "of": "fields", "count": count }));
        let gateway = Gateway::with(api("orders").upstream(&upstream).pre(hoards))
            .grant("handles", ["outgoing-http"])
            .plugin("handles", "outgoing_http", json!({ "allow": ["http://a.test"] }))
            .limits("handles", json!({ "fuel": 1_000_000_000, "deadline_ms": 20_000 }))
            .start()
            .await;

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{count}");
        let counted = |labels: &[(&str, &str)]| gateway.metric("stile_plugin_call_failures_total", labels);
        assert_eq!((counted(&[("kind", "host_call")]), counted(&[])), (failures, failures), "{count}");
    }
}

// limit: plugin::host::HANDLES_MAX
#[tokio::test]
async fn an_instance_has_so_many_handles_in_all() {
    let upstream = Upstream::start();
    for (count, status, failures) in [(1_000, 200, 0.0), (1_001, 503, 1.0)] {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("hoard"));
        let builder = builder.file("hoard.wasm", hoarding(count)).plugin("hoard", "file", "hoard.wasm");
        let gateway = builder.try_start().await.expect("it starts all the same");

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{count}: {}", gateway.problems());
        let counted = gateway.metric("stile_plugin_load_failures_total", &[("plugin", "hoard")]);
        assert_eq!(counted, failures, "{count}");
    }
}

/// A plugin that works, and takes so many handles of a kind of its own whenever an instance of it is made.
fn hoarding(count: u32) -> Vec<u8> {
    let hoards = wat::parse_str(format!(
        r#"(component
            (type $own (resource (rep i32)))
            (core func $new (canon resource.new $own))
            (core module $hoards
                (import "" "new" (func $new (param i32) (result i32)))
                (func $hoard (local $taken i32)
                    (loop $again
                        (drop (call $new (i32.const 0)))
                        (local.set $taken (i32.add (local.get $taken) (i32.const 1)))
                        (br_if $again (i32.lt_u (local.get $taken) (i32.const {count})))))
                (start $hoard))
            (core instance (instantiate $hoards (with "" (instance (export "new" (func $new)))))))"#
    ))
    .expect("a component");
    let mut plugin = std::fs::read(guest("hello")).expect("it is there");
    let (components, _) = parts_of(&plugin);
    RawSection { id: ComponentSectionId::Component.into(), data: &hoards }.append_to_component(&mut plugin);
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate::<[(&str, _, _); 0], _>(components, []);
    instances.append_to_component(&mut plugin);
    plugin
}

/// How many components and core modules a component has already.
fn parts_of(component: &[u8]) -> (u32, u32) {
    let (mut depth, mut components, mut modules) = (0, 0, 0);
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.expect("a component") {
            wasmparser::Payload::ComponentSection { .. } => {
                components += u32::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::ModuleSection { .. } => {
                modules += u32::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    (components, modules)
}

/// A plugin that works, and consists of so many empty core instances beside its three.
fn crowded(more: u32) -> Vec<u8> {
    let mut plugin = std::fs::read(guest("hello")).expect("it is there");
    let (_, modules) = parts_of(&plugin);
    ModuleSection(&Module::new()).append_to_component(&mut plugin);
    let mut instances = InstanceSection::new();
    for _ in 0..more {
        instances.instantiate::<[(&str, _); 0], _>(modules, []);
    }
    instances.append_to_component(&mut plugin);
    plugin
}

#[tokio::test]
async fn a_plugin_of_many_parts_leaves_those_of_the_other_slots_to_others() {
    let upstream = Upstream::start();
    let builder = Gateway::with(api("crowded").upstream(&upstream).pre("crowded"));
    let builder = builder.file("crowded.wasm", crowded(29)).plugin("crowded", "file", "crowded.wasm");
    let builder = builder.plugin("crowded", "isolation", "reuse").and(api("calm").upstream(&upstream).pre("hello"));
    let gateway = builder.set("/runtime/instances_max", 4).set("/workers", 1).start().await;

    assert_eq!(gateway.get("/crowded/1").send().await.status(), 200);
    gateway.metric_becomes("stile_plugin_instances_idle", &[], 1.0).await;
    // Its instance stays.
    assert_eq!(gateway.get("/calm/1").send().await.status(), 200);
}
