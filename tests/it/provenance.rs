//! Plugins that are pinned to a digest or must be signed: a file that is neither is not used, and nothing that runs is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stile_tests::{Builder, Gateway, SigningKey, Upstream, api, guest, plugin};

fn version(number: u8) -> Vec<u8> {
    std::fs::read(guest(&format!("swap-{number}"))).expect("it was built")
}

fn sha256(content: &[u8]) -> String {
    stile::model::digest::Digest::of(content).hex()
}

/// A gateway whose API `swap` answers with the version of its plugin, beside one that has no plugin.
fn swapping(upstream: &Upstream) -> Builder {
    let swap = api("swap").upstream(upstream).pre(plugin("swap").function("answer"));
    let builder = Gateway::with(swap).and(api("well").upstream(upstream));
    builder.file("swap.wasm", version(1)).plugin("swap", "file", "swap.wasm")
}

/// One whose plugin must be signed by `release`.
fn signed(upstream: &Upstream, key: &SigningKey) -> Builder {
    let keys = json!({ "other": SigningKey::new().public(), "release": key.public() });
    let builder = swapping(upstream).set("/trusted_keys", keys).set("/plugins_require", "signed");
    builder.plugin("swap", "signed_by", json!(["release"])).file("swap.wasm.sig", key.sign(version(1)))
}

/// What the control port says of the plugin.
async fn told(gateway: &Gateway) -> Value {
    gateway.manage("GET", "/stile/plugins").send().await.json()[0].clone()
}

/// The file as it is now is not used, for this reason, and version 1 goes on.
async fn is_kept(gateway: &Gateway, reason: &str) {
    let begun = Instant::now();
    let told = loop {
        let told = told(gateway).await;
        if told["reason"].as_str().is_some_and(|found| found.contains(reason)) || begun.elapsed() > PATIENCE {
            break told;
        }
    };
    gateway.metric_becomes("stile_problems", &[], 1.0).await;
    assert_eq!((&told["state"], &told["digest"]), (&json!("kept"), &json!(sha256(&version(1)))));
    let found = told["reason"].as_str().unwrap_or_default();
    assert!(found.contains("plugin `swap`: ") && found.contains(reason), "`{reason}` is not in `{found}`");
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(gateway.control("/ready").send().await.status(), 200);
}

#[tokio::test]
async fn a_file_other_than_the_pinned_one_keeps_what_runs() {
    let upstream = Upstream::start();
    let builder = swapping(&upstream).set("/plugins_require", "pinned");
    let gateway = builder.plugin("swap", "sha256", sha256(&version(1))).start().await;

    gateway.rename_over("swap.wasm", version(2));
    let pins = format!("has the sha256 {}, and {} is pinned", sha256(&version(2)), sha256(&version(1)));
    is_kept(&gateway, &pins).await;
    assert!(gateway.metric("stile_plugin_load_failures_total", &[("plugin", "swap")]) >= 1.0);

    let mut definition = gateway.definition();
    definition["plugins"]["swap"]["sha256"] = sha256(&version(2)).to_uppercase().into();
    gateway.define(&definition);
    gateway.answers("/swap/", 200, "2").await;
    assert_eq!(gateway.problems(), "");
}

#[tokio::test]
async fn a_file_that_never_was_the_pinned_one_is_not_served() {
    let upstream = Upstream::start();
    let builder = swapping(&upstream).plugin("swap", "sha256", sha256(&version(2)));
    let gateway = builder.try_start().await.expect("it starts all the same");

    assert_eq!(gateway.get("/swap/").send().await.status(), 503);
    assert_eq!(gateway.get("/well/").send().await.status(), 200);
    assert_eq!(told(&gateway).await["state"], "refused");
    assert!(gateway.problems().contains("is pinned"), "{}", gateway.problems());

    gateway.rename_over("swap.wasm", version(2));
    gateway.answers("/swap/", 200, "2").await;
}

#[tokio::test]
async fn a_new_version_is_used_when_its_signature_is_there() {
    let (upstream, key) = (Upstream::start(), SigningKey::new());
    let gateway = signed(&upstream, &key).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(told(&gateway).await["signed_by"], "release");

    // The signature comes after its file: that of the version before is none of this one.
    gateway.rename_over("swap.wasm", version(2));
    is_kept(&gateway, "is by none of `release`, or is that of another file").await;
    gateway.rename_over("swap.wasm.sig", key.sign(version(2)));
    gateway.answers("/swap/", 200, "2").await;
    assert_eq!(gateway.problems(), "");
}

#[tokio::test]
async fn a_signature_that_is_missing_wrong_or_a_strangers_keeps_what_runs() {
    let (upstream, key) = (Upstream::start(), SigningKey::new());
    let gateway = signed(&upstream, &key).start().await;
    let file = gateway.folder().join("swap.wasm.sig");

    std::fs::remove_file(&file).expect("it is there");
    is_kept(&gateway, "swap.wasm.sig`: No such file").await;
    assert!(std::process::Command::new("mkfifo").arg(&file).status().is_ok_and(|made| made.success()));
    is_kept(&gateway, "swap.wasm.sig`: it is not a file").await;
    gateway.rename_over("swap.wasm.sig", "no signature");
    is_kept(&gateway, "neither the 64 bytes").await;
    gateway.rename_over("swap.wasm.sig", SigningKey::new().sign(version(1)));
    is_kept(&gateway, "by none of `release`").await;

    gateway.rename_over("swap.wasm.sig", key.sign(version(1)));
    gateway.metric_becomes("stile_problems", &[], 0.0).await;
    assert_eq!(told(&gateway).await["state"], "loaded");
}

#[tokio::test]
async fn a_key_that_is_trusted_no_more_ends_the_trust_in_its_files() {
    let (upstream, key, other) = (Upstream::start(), SigningKey::new(), SigningKey::new());
    let gateway = signed(&upstream, &key).start().await;
    let mut definition = gateway.definition();

    definition["trusted_keys"]["release"] = other.public().into();
    gateway.define(&definition);
    is_kept(&gateway, "by none of `release`").await;

    gateway.rename_over("swap.wasm.sig", other.sign(version(1)));
    gateway.metric_becomes("stile_problems", &[], 0.0).await;
}

#[tokio::test]
async fn a_definition_without_what_is_required_changes_nothing() {
    let (upstream, key) = (Upstream::start(), SigningKey::new());
    let gateway = signed(&upstream, &key).start().await;
    let mut definition = gateway.definition();

    definition["plugins"]["swap"].as_object_mut().expect("a table").remove("signed_by");
    gateway.define(&definition);
    gateway.metric_becomes("stile_reloads_total", &[("result", "refused")], 1.0).await;

    assert!(gateway.problems().contains("`plugins_require` is `signed`"), "{}", gateway.problems());
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(told(&gateway).await["signed_by"], "release");
}

const PATIENCE: Duration = Duration::from_secs(10);
