//! Components that are hard to compile: they cost their own plugin, in limited time and memory, and nobody else.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stile_tests::components::{deep, long, nested, of_module, with_functions, within_one_another};
use stile_tests::{Builder, Folder, Gateway, Upstream, api, compiler, guest};
use wasm_encoder::{ComponentSection as _, Module, NestedComponentSection, TypeSection};

/// A gateway that has `sick`, of this content and with these limits, and `well`.
async fn started(sick: &[u8], limits: Value, with: impl FnOnce(Builder) -> Builder) -> Gateway {
    let upstream = Upstream::start();
    let builder = Gateway::with(api("sick").upstream(&upstream).pre("sick"));
    let builder = builder.and(api("well").upstream(&upstream).pre("hello")).compiler(compiler());
    let builder = builder.file("sick.wasm", sick).plugin("sick", "file", "sick.wasm").limits("sick", limits);
    let gateway = with(builder).try_start().await.expect("it starts all the same");

    assert_eq!(gateway.get("/well/1").send().await.status(), 200);
    assert_eq!(upstream.last().header("x-hello"), Some("world"));
    assert_eq!(gateway.get("/sick/1").send().await.status(), 503);
    assert_eq!(gateway.metric("stile_compiles_running", &[]), 0.0);
    gateway
}

fn stopped(gateway: &Gateway, limit: &str) -> f64 {
    gateway.metric(STOPPED, &[("limit", limit)])
}

const STOPPED: &str = "stile_compiles_stopped_total";

/// With `below` the component compiles, with `above` the limit of this name stops it and counts.
async fn bites(key: &str, sick: &[u8], below: Value, above: Value) {
    let gateway = started(sick, json!({ key: below }), |builder| builder).await;
    assert!(gateway.problems().contains("description"), "it compiled: {}", gateway.problems());
    assert_eq!(gateway.metric(STOPPED, &[]), 0.0);

    let gateway = started(sick, json!({ key: above }), |builder| builder).await;
    let problems = gateway.problems();
    assert!(problems.contains("plugin `sick`") && problems.contains(&format!("`limits.{key}`")), "{problems}");
    assert_eq!(gateway.metric(STOPPED, &[("limit", key)]), 1.0);
    assert_eq!(gateway.metric(STOPPED, &[]), 1.0);
    assert_eq!(gateway.metric("stile_plugin_load_failures_total", &[("plugin", "sick")]), 1.0);
}

#[test]
fn the_compiler_of_the_tests_is_there() {
    assert!(compiler().is_some(), "cargo builds it with the tests");
}

// limit: plugin_limits.compile_time_max_ms
#[tokio::test]
async fn a_component_that_is_slow_to_compile_is_stopped() {
    let bodies: Vec<_> = (0..30).map(|_| long(4_000)).collect();
    let sick = with_functions(&bodies);
    let begun = Instant::now();
    started(&sick, json!({ "compile_time_max_ms": 600_000 }), |builder| builder).await;
    let took = begun.elapsed().as_millis();

    // Compiling it is the most of that. Time is the system's: a busy machine may take far longer the next time.
    bites("compile_time_max_ms", &sick, json!(took * 10), json!(took / 40)).await;
}

// limit: plugin_limits.compile_memory_bytes_max
#[tokio::test]
async fn a_component_that_takes_much_memory_to_compile_is_stopped() {
    let (key, sick) = ("compile_memory_bytes_max", with_functions(&[long(60_000)]));
    let mut enough = 32_u64 << 20;
    while stopped(&started(&sick, json!({ key: enough }), |builder| builder).await, key) > 0.0 {
        enough *= 2;
    }
    assert!(enough > 32 << 20, "it is not much");

    // It takes more than half of that, and not the same to the byte each time.
    bites(key, &sick, json!(enough / 2 * 3), json!(enough / 3)).await;
}

/// What is in the cache of a gateway that compiled one plugin: the bytes of it without the description and what is before.
fn compiled_bytes(gateway: &Gateway) -> usize {
    let entries = std::fs::read_dir(gateway.folder().join("cache")).expect("a cache").map(|entry| entry.expect("one"));
    let file = entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|of| of == "cwasm"));
    let bytes = std::fs::read(file.expect("it was compiled")).expect("it is there");
    let (_seal, rest) = bytes.split_first_chunk::<32>().expect("a seal");
    let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
    rest.len() - usize::try_from(u64::from_le_bytes(*length)).expect("of the description")
}

// limit: plugin_limits.compiled_bytes_max
#[tokio::test]
async fn a_component_may_be_compiled_to_so_much() {
    let upstream = Upstream::start();
    let start = async |limits: Value| {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("hello")).compiler(compiler());
        builder.limits("hello", limits).try_start().await.expect("it starts all the same")
    };
    let bytes = compiled_bytes(&start(json!({})).await);
    for (bytes_max, status, counted) in [(bytes, 200, 0.0), (bytes - 1, 503, 1.0)] {
        let gateway = start(json!({ "compiled_bytes_max": bytes_max })).await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{bytes_max}");
        assert_eq!(gateway.metric(STOPPED, &[("limit", "compiled_bytes_max")]), counted, "{bytes_max}");
        assert_eq!(gateway.metric(STOPPED, &[]), counted, "{bytes_max}");
    }
}

/// With this limit as low as can be the plugin `hello` loads, and with one less it does not, which is counted.
async fn is_needed(key: &str, at_most: u64) {
    let upstream = Upstream::start();
    let loads = async |max: u64| {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("hello"));
        let gateway = builder.limits("hello", json!({ key: max })).try_start().await.expect("it starts");
        let failures = gateway.metric("stile_plugin_load_failures_total", &[("plugin", "hello")]);
        (gateway.get("/orders/1").send().await.status(), failures)
    };
    // How many there are is a matter of its compiler.
    let (mut few, mut enough) = (0, at_most);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        if loads(middle).await.0 == 200 { enough = middle } else { few = middle }
    }

    assert_eq!(loads(enough).await, (200, 0.0), "{key} {enough}");
    assert_eq!(loads(few).await, (503, 1.0), "{key} {few}");
}

// limit: plugin_limits.functions_max
#[tokio::test]
async fn a_component_has_so_many_functions() {
    is_needed("functions_max", 4_096).await;
}

// limit: plugin_limits.modules_max
#[tokio::test]
async fn a_component_has_so_many_modules() {
    is_needed("modules_max", 256).await;
}

// limit: plugin_limits.nesting_max
#[tokio::test]
async fn a_component_is_so_deep() {
    let upstream = Upstream::start();
    // A plugin that works, and beside what it needs has components within one another.
    let mut deep = std::fs::read(guest("hello")).expect("it is there");
    NestedComponentSection(&within_one_another(3)).append_to_component(&mut deep);
    for (nesting_max, status, failures) in [(4, 200, 0.0), (3, 503, 1.0)] {
        let builder = Gateway::with(api("orders").upstream(&upstream).pre("deep")).file("deep.wasm", &deep);
        let builder = builder.plugin("deep", "file", "deep.wasm").limits("deep", json!({ "nesting_max": nesting_max }));
        let gateway = builder.try_start().await.expect("it starts all the same");

        assert_eq!(gateway.get("/orders/1").send().await.status(), status, "{}", gateway.problems());
        assert_eq!(gateway.metric("stile_plugin_load_failures_total", &[("plugin", "deep")]), failures);
    }
}

// limit: plugin_limits.types_max
#[tokio::test]
async fn a_component_has_so_many_types() {
    is_needed("types_max", 4_096).await;
}

#[tokio::test]
async fn a_component_with_too_many_functions_is_not_compiled() {
    let sick = with_functions(&vec![long(1); 1_000]);
    shape("functions_max", &sick, 1_000).await;
}

#[tokio::test]
async fn a_component_within_too_many_others_is_not_compiled() {
    shape("nesting_max", &nested(5), 5).await;
    shape("modules_max", &nested(7), 7).await;
}

#[tokio::test]
async fn a_component_with_too_many_types_is_not_compiled() {
    let mut types = TypeSection::new();
    (0..50).for_each(|_| types.ty().function([], []));
    let mut module = Module::new();
    module.section(&types);
    let component = of_module(&module);
    shape("types_max", &component, 50).await;
}

/// A limit of so many is enough, one less is not.
async fn shape(key: &str, sick: &[u8], count: u32) {
    let gateway = started(sick, json!({ key: count }), |builder| builder).await;
    assert!(gateway.problems().contains("description"), "it compiled: {}", gateway.problems());

    let gateway = started(sick, json!({ key: count - 1 }), |builder| builder).await;
    let problems = gateway.problems();
    assert!(problems.contains("plugin `sick`") && problems.contains(&format!("`limits.{key}`")), "{problems}");
}

#[tokio::test]
async fn deep_nesting_takes_nobody_along() {
    // What the compiler makes of it is its own matter.
    let gateway =
        started(&with_functions(&[deep(100_000)]), json!({ "compile_time_max_ms": 10_000 }), |builder| builder).await;
    assert!(gateway.problems().contains("plugin `sick`"), "{}", gateway.problems());
    let gateway =
        started(&nested(10_000), json!({ "nesting_max": 1000, "modules_max": 1_000_000 }), |builder| builder).await;
    assert!(gateway.problems().contains("`limits.nesting_max`"), "{}", gateway.problems());
}

/// A compiler that does what the script says to components of so many bytes, and its work with others.
fn broken(folder: &Folder, bytes: usize, script: &str) -> Option<PathBuf> {
    let program = folder.path().join("compiler");
    let fixture = stile_tests::workspace().join("tests/data/compiler");
    std::os::unix::fs::symlink(fixture, &program).expect("a link");
    let real = compiler().expect("the compiler is there");
    // The key comes before the component.
    let script = format!(
        "if [ $(stat -L -c %s /proc/self/fd/0) = {} ]; then {script}; exit; fi\nexec {} \"$@\"",
        bytes + 32,
        real.display()
    );
    folder.write("compiler.sh", script);
    Some(program)
}

#[tokio::test]
async fn a_compiler_that_breaks_is_told_and_costs_one_plugin() {
    let sick = with_functions(&[long(1)]);
    for (script, words) in [
        ("kill -9 $$", "signal: 9"),
        ("kill -SEGV $$", "signal: 11"),
        ("head -c 10000 /dev/urandom", "not whole"),
        ("echo lost >&2; exit 7", "exit status: 7: lost"),
    ] {
        let folder = Folder::new();
        let program = broken(&folder, sick.len(), script);
        let gateway = started(&sick, json!({}), |builder| builder.compiler(program)).await;

        let problems = gateway.problems();
        assert!(problems.contains("plugin `sick`") && problems.contains(words), "{script}: {problems}");
        assert_eq!(stopped(&gateway, "none"), 1.0, "{script}");
    }
}

#[tokio::test]
async fn a_compiler_that_hangs_is_ended_and_leaves_nothing() {
    let sick = with_functions(&[long(1)]);
    let folder = Folder::new();
    let script = format!("echo $$ > {}/pid; exec sleep 1000", folder.path().display());
    let program = broken(&folder, sick.len(), &script);
    let begun = Instant::now();
    let limits = json!({ "compile_time_max_ms": 2_000 });
    let gateway = started(&sick, limits, |builder| builder.compiler(program)).await;

    assert!(gateway.problems().contains("`limits.compile_time_max_ms`"), "{}", gateway.problems());
    assert!(begun.elapsed() < Duration::from_secs(500));
    let pid = std::fs::read_to_string(folder.path().join("pid")).expect("it began");
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid} is still there");
}

#[tokio::test]
async fn a_schema_without_an_end_costs_its_plugin_alone() {
    let upstream = Upstream::start();
    // It is compiled for the cache in the time that this takes, and only then has a schema's time.
    let hello = Gateway::with(api("well").upstream(&upstream).pre("hello"));
    let file = guest("describe-schema").display().to_string();
    let gateway = hello.plugin("sick", "file", file).start().await;
    assert_eq!(gateway.problems(), "");

    let mut definition = gateway.definition();
    definition["plugins"]["sick"]["limits"] = json!({ "compile_time_max_ms": 300 });
    for id in ["a", "b", "c"] {
        let mut sick = definition["apis"][0].clone();
        sick["id"] = json!(id);
        sick["listen"] = json!({ "path": format!("/{id}/") });
        sick["hooks"] = json!({ "pre": [{ "plugin": "sick", "config": { "of": id } }] });
        definition["apis"].as_array_mut().expect("a list").push(sick);
    }
    gateway.define(&definition);
    // Done, with problems.
    assert_eq!(gateway.manage("POST", "/stile/reload").send().await.status(), 422);

    let problems = gateway.problems();
    for words in ["apis.c.hooks.pre[0]", "plugin `sick`: its configuration schema", "`limits.compile_time_max_ms`"] {
        assert!(problems.contains(words), "`{words}` is not in: {problems}");
    }
    assert_eq!(stopped(&gateway, "compile_time_max_ms"), 1.0);
    assert_eq!(gateway.metric("stile_compiles_running", &[]), 0.0);
    assert_eq!(gateway.get("/a/1").send().await.status(), 503);
    assert_eq!(gateway.get("/well/1").send().await.status(), 200);
    assert_eq!(upstream.last().header("x-hello"), Some("world"));
}

#[tokio::test]
async fn a_running_gateway_keeps_its_plugin_while_and_after_a_slow_one_is_tried() {
    let upstream = Upstream::start();
    let hello = std::fs::read(guest("hello")).expect("it is there");
    let builder = Gateway::with(api("orders").upstream(&upstream).pre("hello")).compiler(compiler());
    let builder = builder.file("hello.wasm", hello).plugin("hello", "file", "hello.wasm");
    let gateway = builder.start().await;
    // Only now: the good one had the time that it took, however busy the machine is.
    let mut definition = gateway.definition();
    definition["plugins"]["hello"]["limits"] = json!({ "compile_time_max_ms": 1_000 });
    gateway.define(&definition);
    assert_eq!(gateway.manage("POST", "/stile/reload").send().await.status(), 200);

    let bodies: Vec<_> = (0..600).map(|_| long(4_000)).collect();
    gateway.rename_over("hello.wasm", with_functions(&bodies));
    let begun = Instant::now();
    let mut served = 0;
    while stopped(&gateway, "compile_time_max_ms") < 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing was stopped: {}", gateway.problems());
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        assert_eq!(upstream.last().header("x-hello"), Some("world"));
        served += 1;
    }

    assert!(served > 10, "{served}");
    assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
    assert_eq!(upstream.last().header("x-hello"), Some("world"));
}

#[tokio::test]
async fn without_a_program_to_start_the_gateway_compiles_by_itself() {
    let bodies: Vec<_> = (0..30).map(|_| long(4_000)).collect();
    let limits = json!({ "compile_time_max_ms": 150 });
    let gateway = started(&with_functions(&bodies), limits, |builder| builder.compiler(None)).await;

    assert!(gateway.problems().contains("`limits.compile_time_max_ms`"), "{}", gateway.problems());
    assert_eq!(stopped(&gateway, "compile_time_max_ms"), 1.0);
}
