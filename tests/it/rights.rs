//! What a component may do, as `stile plugin inspect` and `stile plugin diff` tell it.

use std::process::{Command, Output};

use serde_json::{Value, json};
use stile_tests::{Folder, compiler, guest};

/// Runs the command.
fn ran(arguments: &[&str]) -> Output {
    Command::new(compiler().expect("cargo built it")).args(arguments).output().expect("it runs")
}

/// Runs the command; gives its exit code, and what it wrote to standard output.
fn stile(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = ran(arguments);
    (status.code(), String::from_utf8(stdout).expect("text"))
}

fn path(name: &str) -> String {
    guest(name).to_str().expect("our names are text").to_owned()
}

fn json_of((code, text): (Option<i32>, String)) -> (Option<i32>, Value) {
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn a_version_that_gained_rights_is_told_by_the_exit_code() {
    let (hello, limit) = (path("hello"), path("rate-limit"));

    let (code, told) = json_of(stile(&["plugin", "diff", &hello, &limit, "--json"]));
    assert_eq!(code, Some(1));
    assert_eq!((&told["old"]["name"], &told["new"]["name"]), (&json!("hello"), &json!("rate-limit")));
    let gained = told["gained"].as_array().expect("a list");
    let kv = gained.iter().find(|right| right["what"] == "kv").expect("it asks for `kv`");
    assert_eq!(kv["right"], "capability");
    assert!(gained.iter().any(|right| right["what"] == "stile:plugin/kv"), "{told:#}");
    assert!(gained.iter().any(|right| right["right"] == "function" && right["what"] == "pre limit"), "{told:#}");

    // The other way round they are lost, which is no failure.
    let (code, back) = json_of(stile(&["plugin", "diff", &limit, &hello, "--json"]));
    assert_eq!((code, &back["gained"]), (Some(i32::from(told["lost"] != json!([]))), &told["lost"]));
    assert_eq!(back["lost"], told["gained"]);

    let (_, text) = stile(&["plugin", "diff", &hello, &limit]);
    assert!(text.lines().any(|line| line.starts_with("gained  capability  kv")), "{text}");
}

#[test]
fn a_version_with_the_same_rights_is_good() {
    let (code, text) = stile(&["plugin", "diff", &path("swap-1"), &path("swap-2")]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("the same rights\n"), "{text}");
    assert_eq!(stile(&["plugin", "diff", &path("swap-1"), "no.wasm"]).0, Some(2));
}

#[test]
fn what_is_asked_granted_and_allowed_is_told_with_the_line_to_add() {
    let folder = Folder::new();
    let definition = |runtime: Value, grants: Value| {
        let limit = json!({ "file": path("rate-limit"), "grants": grants });
        let api = json!({ "id": "x", "listen": { "path": "/" }, "upstream": { "url": "http://a" }, "hooks": { "pre": ["limit"] } });
        let text = json!({ "runtime": runtime, "plugins": { "limit": limit }, "apis": [api] }).to_string();
        folder.write("stile.yaml", text).to_str().expect("our names are text").to_owned()
    };
    let rights = |config: &str, expected: i32| {
        let (code, told) = json_of(stile(&["plugin", "inspect", "--plugin", "limit", "-c", config, "--json"]));
        assert_eq!((code, &told["plugin"]), (Some(expected), &json!("limit")));
        told["rights"].clone()
    };
    let of = |rights: &Value, name: &str| {
        let all = rights.as_array().expect("a list").iter();
        all.clone().find(|of| of["capability"] == name).cloned().unwrap_or_default()
    };

    // Where a grant is missing, a pipeline can stop.
    let bare = rights(&definition(json!({ "grants_max": ["log"] }), json!(["log"])), 1);
    let to_do = "add `kv` to `plugins.limit.grants`; add `kv` to `runtime.grants_max`";
    let kv = json!({ "capability": "kv", "asked": true, "granted": false, "allowed": false, "to_do": to_do });
    assert_eq!(of(&bare, "kv"), kv);
    assert_eq!(of(&bare, "log")["to_do"], "not asked for: take `log` out of `plugins.limit.grants`");

    let config = definition(json!({}), json!(["kv", "metrics"]));
    let whole = rights(&config, 0);
    let kv = json!({ "capability": "kv", "asked": true, "granted": true, "allowed": true, "to_do": null });
    assert_eq!(of(&whole, "kv"), kv);

    // Another file, as that plugin.
    let (code, text) = stile(&["plugin", "inspect", &path("hello"), "--plugin", "limit", "-c", &config]);
    assert_eq!(code, Some(0));
    assert!(text.contains("rights as the plugin `limit`"), "{text}");
    assert!(text.contains("not asked for: take `kv` out of `plugins.limit.grants`"), "{text}");
    assert_eq!(stile(&["plugin", "inspect", "--plugin", "nobody", "-c", &config]).0, Some(2));
    assert_eq!(stile(&["plugin", "inspect"]).0, Some(2));
}

#[test]
fn no_name_of_a_plugin_reaches_a_terminal_as_it_is() {
    let (folder, file) = (Folder::new(), path("describe-escapes"));
    let api =
        json!({ "id": "x", "listen": { "path": "/" }, "upstream": { "url": "http://a" }, "hooks": { "pre": ["p"] } });
    let runtime = json!({ "cache_dir": folder.path().join("cache") });
    let text = json!({ "runtime": runtime, "plugins": { "p": { "file": file } }, "apis": [api] }).to_string();
    let config = folder.write("stile.yaml", text).to_str().expect("our names are text").to_owned();
    let commands: [&[&str]; 4] = [
        &["plugin", "inspect", &file],
        &["plugin", "inspect", "--json", &file],
        &["plugin", "diff", &path("hello"), &file],
        &["check", "--explain", "-c", &config],
    ];
    for command in commands {
        let Output { status, stdout, stderr } = ran(command);
        let shown = String::from_utf8([stdout, stderr].concat()).expect("text");
        assert!(!status.success(), "{command:?}: {shown}");
        assert!(shown.contains("is not a function's name"), "{command:?}: {shown}");
        assert!(!shown.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{command:?}: {shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("signed by the operator")), "{command:?}: {shown:?}");
    }
}
