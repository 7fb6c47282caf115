//! `stile plugin inspect` of a plugin that is elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use stile_tests::{ACCOUNT, compiler};

use super::*;

/// The configuration file of a gateway with this plugin, which is signed and has its account if it wants one.
fn definition(folder: &Folder, file: &str, kept: &Folder, more: Value) -> PathBuf {
    let mut swap = json!({ "file": file });
    for (key, value) in more["plugin"].as_object().into_iter().flatten() {
        swap[key.as_str()] = value.clone();
    }
    let api = json!({
        "id": "x", "listen": { "path": "/" }, "upstream": { "url": "http://127.0.0.1:1" },
        "hooks": { "pre": [{ "plugin": "swap", "function": "answer" }] },
    });
    let mut definition = json!({ "runtime": { "cache_dir": kept.path() }, "plugins": { "swap": swap }, "apis": [api] });
    for key in ["fetch", "trusted_keys"] {
        if !more[key].is_null() {
            definition[key] = more[key].clone();
        }
    }
    folder.write("stile.yaml", definition.to_string())
}

/// Exit code, standard output and standard error.
async fn inspect(config: &Path, more: &'static [&str]) -> (Option<i32>, String, String) {
    let config = config.to_owned();
    let run = move || {
        let mut command = Command::new(compiler().expect("cargo built it"));
        command.args(["plugin", "inspect", "--plugin", "swap", "-c"]).arg(config).args(more);
        let output = command.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}

#[tokio::test]
async fn a_plugin_of_a_registry_is_fetched_to_where_the_gateway_finds_it() {
    let (folder, kept, mut registry) = (Folder::new(), Folder::new(), Registry::closed());
    registry.push("swap", "1", &version(1), json!({})).await;
    let image = registry.names("swap:1");
    folder.write("password", ACCOUNT.1);
    let url = image.replace("oci://", "http://").replace("/swap:1", "");
    let account = json!({ "url": url, "username": ACCOUNT.0, "password": { "file": "password" } });
    let config = definition(&folder, &image, &kept, json!({ "fetch": { "accounts": [account] } }));

    let (code, told, error) = inspect(&config, &["--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["sha256"], &told["fetched_from"]), (&json!(Digest::of(&version(1)).hex()), &json!(image)));
    assert_eq!((&told["plugin"], &told["stale"]), (&json!("swap"), &Value::Null));

    registry.kill();
    let (code, told, error) = inspect(&config, &[]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(told.contains(&format!("fetched    {image}\n             not now, this is what came last: ")), "{told}");
    assert!(![told, error].concat().contains(ACCOUNT.1));

    // A gateway starts with what came.
    let upstream = Upstream::start();
    let gateway = fetching(&upstream, &image, &kept).try_start().await.expect("it starts");
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
}

#[tokio::test]
async fn a_plugin_that_is_fetched_is_checked_like_that_of_a_gateway() {
    let (folder, files, key) = (Folder::new(), Files::default(), SigningKey::new());
    let server = files.serve();
    let file = format!("{}/swap.wasm", server.url());
    let more = json!({ "trusted_keys": { "release": key.public() }, "plugin": { "signed_by": ["release"] } });
    for (signature, expected) in
        [(key.sign(version(1)), Ok(())), (SigningKey::new().sign(version(1)), Err("by none of"))]
    {
        let kept = Folder::new();
        files.put(version(1), signature);
        let (code, told, error) = inspect(&definition(&folder, &file, &kept, more.clone()), &[]).await;
        match expected {
            Ok(()) => assert_eq!(code, Some(0), "{error}"),
            Err(part) => assert!(code == Some(2) && error.contains(part) && told.is_empty(), "{error}"),
        }
    }
    files.put(Vec::new(), Vec::new());
    let (code, told, error) = inspect(&definition(&folder, &file, &Folder::new(), more), &[]).await;
    assert!(
        code == Some(1) && error.contains("cannot fetch") && error.contains("status 503"),
        "{code:?} {told} {error}"
    );
}
