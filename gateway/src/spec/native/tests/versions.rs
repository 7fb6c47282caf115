//! Versions of an API, as the configuration has them.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::folder::Folder;
use super::{api, check, check_all, problems};
use crate::model::version::VersionSource;

/// An API with these keys below `versions`.
fn versions(keys: &str) -> String {
    api(&format!("versions: {{ {keys} }}"))
}

#[test]
fn versions_stand_in_a_header_a_query_parameter_or_the_path() {
    check_all(&versions("from: header, name: X-Api-Version, list: [ v1 ]"), &[]);
    check_all(&versions("from: query, name: v, default: v2, strip: true, list: [ v1, { name: v2 } ]"), &[]);
    check_all(&versions("from: path, list: [ { name: v1, url: \"http://a/b\", expires: 2999-01-01T00:00:00Z } ]"), &[]);
    check(&versions("list: [ v1 ]"), "error apis[0].versions: `from` is missing | Where a request says");
    check(&versions("from: cookie, name: v, list: [ v1 ]"), "error apis[0].versions.from: `cookie` is not known here");
    check(&versions("from: query, list: [ v1 ]"), "error apis[0].versions: `name` is missing");
    check(&versions("from: query, name: \"\", list: [ v1 ]"), "error apis[0].versions.name: is empty");
    check(&versions("from: path, name: v, list: [ v1 ]"), "error apis[0].versions.name: is not used with `from: path`");
    check(&versions("from: header, name: \"a b\", list: [ v1 ]"), "error apis[0].versions.name: `a b` is not a header");
    for name in ["Host", "connection", "x-forwarded-host", "x-request-id"] {
        let keys = format!("from: header, name: {name}, list: [ v1 ]");
        check(&versions(&keys), "is a field that the gateway writes itself | such as `x-api-version`");
    }
}

#[test]
fn versions_have_names_of_their_own() {
    let list = |list: &str| versions(&format!("from: path, list: {list}"));
    check(&list("[]"), "error apis[0].versions.list: is empty: every request would be refused | such as `[v1, v2]`");
    check(&list("[ v1, v1 ]"), "error apis[0].versions.list[1]: `v1` is listed twice | remove one");
    check(
        &list("[ v1, { name: V1 } ]"),
        "error apis[0].versions.list[1]: `V1` differs from another one by letter case",
    );
    for name in ["\"\"", "a/b", "\"a b\"", ".", "..", "ä"] {
        check(&list(&format!("[ {name} ]")), "is not a version's name | 1 to 128 letters, digits, `-`, `_` or `.`");
    }
    check(&list("[ { name: a/b } ]"), "error apis[0].versions.list[0].name: `a/b` is not a version's name");
    check(&list("[ 1 ]"), "error apis[0].versions.list[0]: expected text or a table of keys, found a number");
    check(&list("[ { name: v1, nam: v2 } ]"), "list[0].nam: unknown key | did you mean `name`?");
    check(
        &versions("from: path, default: v22, list: [ v1, v2 ]"),
        "error apis[0].versions.default: there is no version `v22` | did you mean `v2`? Listed are `v1`, `v2`",
    );
    check_all(
        &versions("from: path, name: v, default: v3, list: [ a/b, { name: v2, url: x, expires: soon } ]"),
        &[
            "versions.name",
            "versions.list[0]",
            "versions.list[1].url",
            "versions.list[1].expires: `soon` is not a time",
            "versions.default: there is no version `v3` | one of `list`",
        ],
    );
}

#[test]
fn a_version_expires_at_a_time_that_is_still_to_come() {
    let expires = |text: &str| versions(&format!("from: path, list: [ v1, {{ name: v2, expires: {text} }} ]"));
    check(&expires("\"2020-01-01T00:00:00Z\""), "warning apis[0].versions.list[1].expires: is over: every request");
    check(&expires("2027-02-30T00:00:00Z"), "error apis[0].versions.list[1].expires: `2027-02-30T00:00:00Z` is not a");
    check(&expires("1800000000"), "error apis[0].versions.list[1].expires: expected text");
}

#[test]
fn settings_of_tls_are_used_where_a_version_speaks_it() {
    let server_name = |url: &str| {
        api(&format!(
            "upstream: {{ url: \"http://a\", server_name: b }}, \
             versions: {{ from: path, list: [ {{ name: v1, url: \"{url}\" }} ] }}"
        ))
    };
    check(&server_name("http://b"), "warning apis[0].upstream.server_name: is not used");
    check_all(&server_name("https://b"), &[]);
}

#[test]
fn policies_name_versions_that_are_there() {
    let policy = |access: &str| {
        let apis = versions("from: path, list: [ v1, v2 ]");
        format!("policies: [ {{ id: p, access: {{ {access} }} }} ]\n{apis}")
    };
    check_all(&policy("x: { versions: [ v1, v2 ] }"), &[]);
    // Tyk's word for an API without versions.
    check_all(&policy("used: { versions: [ Default ] }"), &[]);
    check(&policy("x: { versions: [ v1, v3 ] }"), "warning policies[0]: the API `x` has no version `v3`");
    let secret = policy("x: { versions: [ \"${WORD}\" ] }");
    check(&secret, "warning policies[0]: the API `x` has no version the value from the environment");
}

#[test]
fn a_time_is_written_in_toml_as_toml_does() {
    let folder = Folder::new();
    folder.write(
        "stile.toml",
        "[[apis]]\nid = 'x'\nlisten.path = '/x'\nupstream.url = 'http://a'\n\
         versions = { from = 'header', name = 'X-V', list = [{ name = 'v1', expires = 2999-01-01T00:00:00Z }] }\n",
    );
    assert_eq!(problems(&folder, "stile.toml"), Vec::<String>::new());
    let (gateway, _) = crate::spec::read(&folder.path("stile.toml")).expect("a configuration");
    let versions = gateway.apis[0].versions.as_ref().expect("versions");
    assert_eq!(versions.list[0].expires_ms, Some(32_472_144_000_000));
    assert_eq!(versions.source, VersionSource::Header(http::HeaderName::from_static("x-v")));
}
