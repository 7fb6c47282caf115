//! Where plugins may send requests, their secrets, and what the deployment allows at most.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::folder::Folder;
use super::{environment, plugin, problems};

fn folder(yaml: &str) -> Folder {
    let folder = Folder::new();
    folder.write("a.wasm", "");
    folder.write("token", "of-the-file\n");
    folder.write("lines", "two\nlines\n");
    folder.write("long", &"x".repeat(5_000));
    folder.write("stile.yaml", yaml);
    folder
}

/// The problems of a plugin with these keys, in a file that begins with `top`.
#[track_caller]
fn check_with(top: &str, keys: &str, expected: &[&str]) {
    let folder = folder(&format!("{top}\n{}", plugin(&format!("file: a.wasm, {keys}"))));
    let found = problems(&folder, "stile.yaml");
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(fits, "{top} {keys}\nexpected {expected:#?}\nfound {found:#?}");
    assert!(!found.concat().contains("hunter2") && !found.concat().contains("of-the-file"), "{found:?}");
}

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    check_with("", keys, expected);
}

const BOTH: &str = "grants: [outgoing-http, secrets], outgoing_http: { allow: [ https://a.test ] }";

#[test]
fn a_grant_and_its_list_go_together() {
    check(
        "grants: [outgoing-http]",
        &[
            "error plugins.a.outgoing_http: `outgoing-http` is granted, but there is no list of hosts | add `outgoing_http: {",
        ],
    );
    check(
        "outgoing_http: { allow: [ https://a.test ] }",
        &["warning plugins.a.outgoing_http: is not used | add `outgoing-http` to the plugin's `grants`"],
    );
    check(
        "grants: [outgoing-http], outgoing_http: { allow: [] }",
        &["error plugins.a.outgoing_http.allow: the list is empty"],
    );
    check("grants: [outgoing-http], outgoing_http: {}", &["error plugins.a.outgoing_http: `allow` is missing"]);
    check(BOTH, &["error plugins.a.secrets: `secrets` is granted, but there is none"]);
    check(
        "secrets: { x: { env: WORD } }",
        &["warning plugins.a.secrets: is not used | add `secrets` to the plugin's `grants`"],
    );
    check(
        "grants: [secrets], secrets: { x: { env: WORD } }",
        &["warning plugins.a.grants: `secrets` is of no use without `outgoing-http`"],
    );
}

#[test]
fn a_place_is_scheme_and_host() {
    check(
        "grants: [outgoing-http], outgoing_http: { allow: [ a.test, { url: 'http://a.test/b' }, { url: 'http://10.0.0.1', private: true } ] }",
        &[
            "error plugins.a.outgoing_http.allow[0]: `a.test` is not a place: it begins with neither `http://` nor `https://`",
            "error plugins.a.outgoing_http.allow[1].url: `http://a.test/b` is not a place",
            "error plugins.a.outgoing_http.allow[2].url: `http://10.0.0.1` is not a place: `private` is for names",
        ],
    );
    check(
        "grants: [outgoing-http], outgoing_http: { allow: [ https://a.test ], ca_file: no.pem }",
        &["error plugins.a.outgoing_http.ca_file: the file of certificate authorities"],
    );
}

#[test]
fn a_secret_is_read_when_the_definition_is() {
    let folder = folder(&plugin(&format!(
        "file: a.wasm, {BOTH}, secrets: {{ f: {{ file: token }}, e: {{ env: WORD, hosts: [ https://a.test ] }} }}"
    )));
    let read = crate::spec::read_with(&folder.path("stile.yaml"), &environment);
    let (gateway, warnings) = read.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    let secrets = &gateway.plugins[0].secrets;
    let shown: Vec<_> = secrets.iter().map(|s| (s.name.as_str(), s.value.expose(), s.to.len())).collect();
    assert_eq!(shown, [("e", "hunter2", 1), ("f", "of-the-file", 0)]);
    assert!(!format!("{gateway:?}").contains("hunter2"));
}

#[test]
fn a_secret_that_is_missing_or_none_is_named_by_its_place() {
    for (secret, expected) in [
        ("env: NOT_SET", "error plugins.a.secrets.x.env: the environment variable `NOT_SET` is not set"),
        (
            "env: SECRET",
            "error plugins.a.secrets.x.env: what is there is not a secret | a secret is 1 to 4,096 visible",
        ),
        ("file: nowhere", "error plugins.a.secrets.x.file: the file of the secret"),
        ("file: lines", "error plugins.a.secrets.x.file: what is there is not a secret"),
        ("file: long", "error plugins.a.secrets.x.file: cannot be read as a text of at most 4,096 bytes"),
        ("env: WORD, file: token", "error plugins.a.secrets.x: takes exactly one of `env` and `file`"),
        ("", "error plugins.a.secrets.x: takes exactly one of `env` and `file`"),
        (
            "env: WORD, hosts: [ https://b.test ]",
            "error plugins.a.secrets.x.hosts[0]: the plugin may not send requests to `https://b.test` | add it to",
        ),
    ] {
        check(&format!("{BOTH}, secrets: {{ x: {{ {secret} }} }}"), &[expected]);
    }
    check(
        &format!("{BOTH}, secrets: {{ 'a b': {{ env: WORD }} }}"),
        &["error plugins.a.secrets[\"a b\"]: is not a secret's name"],
    );
}

#[test]
fn a_deployment_bounds_what_any_plugin_is_granted() {
    check_with(
        "runtime: { grants_max: [log] }",
        "grants: [log, kv]",
        &["error plugins.a.grants: `kv` is not in `runtime.grants_max` | take it out here, or add it there"],
    );
    check_with("runtime: { grants_max: [log, kv] }", "grants: [log, kv]", &[]);
    let http = |allow: &str| format!("grants: [outgoing-http], outgoing_http: {{ allow: [ {allow} ] }}");
    let top = "runtime: { outgoing_http_max: [ 'https://*.a.test' ] }";
    check_with(top, &http("https://b.a.test"), &[]);
    check_with(
        top,
        &http("https://b.a.test, http://b.a.test, { url: 'https://c.a.test', private: true }"),
        &[
            "error plugins.a.outgoing_http.allow[1]: `http://b.a.test` is not within `runtime.outgoing_http_max`",
            "error plugins.a.outgoing_http.allow[2]: `https://c.a.test` is not within `runtime.outgoing_http_max`",
        ],
    );
    check_with("runtime: { outgoing_http_max: [] }", &http("https://a.test"), &["is not within"]);
    check_with(
        "runtime: { outgoing_http_max: [ a ] }",
        &http("https://a.test"),
        &["error runtime.outgoing_http_max[0]: `a`"],
    );
}

#[test]
fn places_for_callers_requests_are_listed_beside_their_grant() {
    check(
        "grants: [upstream]",
        &[
            "error plugins.a.upstream: `upstream` is granted, but there is no list of places or APIs | add `upstream: { allow: ",
        ],
    );
    check("grants: [upstream], apis: { allow: [x] }", &[]);
    check("grants: [upstream], upstream: { allow: [ https://a.test ] }", &[]);
    check("grants: [upstream], upstream: { allow: [] }", &["error plugins.a.upstream.allow: the list is empty"]);
    check("grants: [upstream], upstream: { allow: [ a ] }", &["error plugins.a.upstream.allow[0]: `a` is not a place"]);
    check(
        "upstream: { allow: [ https://a.test ] }",
        &["warning plugins.a.upstream: is not used | add `upstream` to the plugin's `grants`"],
    );
    check_with(
        "runtime: { upstream_max: [ 'https://*.a.test' ] }",
        "grants: [upstream], upstream: { allow: [ https://b.a.test, https://b.test ] }",
        &["error plugins.a.upstream.allow[1]: `https://b.test` is not within `runtime.upstream_max`"],
    );
}

#[test]
fn apis_are_listed_beside_their_grant() {
    check(
        "grants: [apis]",
        &["error plugins.a.apis: `apis` is granted, but there is no list of APIs | add `apis: { allow: [ID] }`"],
    );
    check("grants: [apis], apis: { allow: [] }", &["error plugins.a.apis.allow: the list is empty"]);
    check("grants: [apis], apis: { allow: [a/b] }", &["error plugins.a.apis.allow[0]: `a/b` is not an API's id"]);
    check(
        "grants: [upstream], apis: { allow: [orders] }",
        &["error plugins.a.apis.allow[0]: there is no API `orders` | name it as under `id` of the API"],
    );
    check("grants: [apis], apis: { allow: [x] }", &[]);
    check(
        "grants: [apis], apis: { allow: [xx] }",
        &["error plugins.a.apis.allow[0]: there is no API `xx` | did you mean `x`?"],
    );
    check(
        "apis: { allow: [x] }",
        &["warning plugins.a.apis: is not used | add `apis` (to call them) or `upstream` (to send requests on)"],
    );
    check_with(
        "runtime: { apis_max: [y] }",
        "grants: [apis], apis: { allow: [x] }",
        &["error plugins.a.apis.allow[0]: `x` is not in `runtime.apis_max` | take it out here, or add it there"],
    );
}
