//! What is wrong in one place hides nothing that is wrong elsewhere, and makes nothing up.

use super::folder::Folder;
use super::{api, check, check_all, gateway, plugin, problems};

#[test]
fn what_is_there_twice_is_told_whatever_else_is_wrong_with_it() {
    check_all(
        "apis:\n\
         - { id: one, listen: { path: /x, hosts: [ a, B, \"c:1\" ] }, upstream: { url: nowhere } }\n\
         - { id: one, listen: { path: /y, zzz: 1 }, upstream: { url: \"http://a\" } }\n\
         - { id: \"a b\", listen: { path: /x/, hosts: [ b ] }, upstream: { url: \"http://a\" } }\n\
         - { id: four, listen: { path: /x, hosts: [ b ] } }\n\
         policies: [ { id: p, rate: { requests: 0, per_seconds: 1 } }, { id: p, zzz: 1 }, { id: p } ]\n",
        &[
            "error apis[1].listen.zzz: unknown key",
            "error apis[3]: `upstream` is missing",
            "error policies[1].zzz: unknown key",
            "error apis[0].listen.hosts[2]: `c:1` is not a host",
            "error apis[0].upstream.url: `nowhere` is not",
            "error apis[2].id: `a b` is not an id",
            "error policies[0].rate.requests: 0 would mean no limit",
            "error apis[1].id: `one` is the id of another API",
            "error apis[2].listen.path: the API with id `one` listens at the same path on host `b`",
            "error apis[3].listen.path: another API listens at the same path on host `b`",
            "error policies[1]: `p` is the id of another policy",
            "error policies[2]: `p` is the id of another policy",
        ],
    );
}

/// Neither what is missing nor what is broken is there twice.
#[test]
fn what_cannot_be_read_is_not_there_twice() {
    check_all(
        "apis:\n\
         - { listen: { path: /x, host: a }, upstream: { url: \"http://a\" } }\n\
         - { listen: { path: /x, hosts: [ 7 ] }, upstream: { url: \"http://a\" } }\n\
         - { id: \"${NOT_SET}\", upstream: { url: \"http://a\" } }\n\
         - { id: \"${NOT_SET}\", listen: { path: / }, upstream: { url: \"http://a\" } }\n",
        &[
            "error apis[2].id: the environment variable",
            "error apis[3].id: the environment variable",
            "error apis[0]: `id` is missing",
            "error apis[0].listen.host: unknown key",
            "error apis[1]: `id` is missing",
            "error apis[1].listen.hosts[0]: expected text",
            "error apis[2]: `listen` is missing",
        ],
    );
}

#[test]
fn policies_of_several_files_are_compared_whatever_is_wrong_with_them() {
    let folder = Folder::new();
    folder.write(
        "stile.yaml",
        "apis: [ { id: x, listen: { path: /x }, upstream: { url: \"http://a\" } } ]\n\
         policies: { file: policies.yaml, tyk_file: tyk.json }\n",
    );
    folder.write("policies.yaml", "policies: [ { id: one, ratee: 1 }, { id: two } ]");
    folder.write("tyk.json", r#"{ "one": { "rate": "x" }, "two": { "hmac_enabled": true } }"#);
    let found = problems(&folder, "stile.yaml").join("\n");
    for expected in
        ["error one: `one` is the id of another", "error two: `two` is the id of another", "one.rate: is no"]
    {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
}

#[test]
fn a_key_of_a_wrong_kind_hides_nothing_beside_it() {
    check_all(
        &api("auth: { token: yes, plugin: c, credential: { header: \"a b\" } }"),
        &[
            "error apis[0].auth.token: expected true or false, found text | `true` or `false`, without quotes",
            "error apis[0].auth.credential.header: `a b` is not",
            "error apis[0].auth.plugin: there is no plugin `c`",
        ],
    );
    check_all(
        &api(
            "versions: { from: head, name: \"a b\", default: v3, list: [ a/b, v1, v1, { name: v2, expires: soon } ] }",
        ),
        &[
            "error apis[0].versions.from: `head` is not known here",
            "error apis[0].versions.list[0]: `a/b` is not a version's name",
            "error apis[0].versions.list[2]: `v1` is listed twice",
            "error apis[0].versions.list[3].expires: `soon` is not a time",
            "error apis[0].versions.default: there is no version `v3`",
        ],
    );
    check_all(
        &api("hooks: { endpoint: [ { path: 7, plugin: c, method: get }, { path: \"/{\" } ] }"),
        &[
            "error apis[0].hooks.endpoint[0].path: expected text",
            "error apis[0].hooks.endpoint[1]: `plugin` is missing",
            "error apis[0].hooks.endpoint[0].method: `get` is not a method",
            "error apis[0].hooks.endpoint[0].plugin: there is no plugin `c`",
            "error apis[0].hooks.endpoint[1].path: `/{` is not a path template",
        ],
    );
    check_all(
        &gateway(
            "policies: [ { id: p, rate: { requests: x, per_seconds: 1 }, quota: { requests: 0 }, access: { x: { \
             paths: [ { path: \"(\", methods: GET } ], \
             endpoints: [ { path: \"(\", method: get, rate: { requests: x } } ] } } } ]",
        ),
        &[
            "access.x.endpoints[0].rate: `per_seconds` is missing",
            "access.x.endpoints[0].rate.requests: expected a whole number",
            "access.x.paths[0].methods: expected a list",
            "rate.requests: expected a whole number",
            "quota.requests: 0 would mean no limit",
            "access.x.paths[0].path: `(` is not a regular expression",
            "access.x.endpoints[0].path: `(` is not a regular expression",
            "access.x.endpoints[0].method: `get` is not a method",
        ],
    );
    check_all(
        &plugin("grants: [ outgoing-http ]"),
        &["error plugins.a: `file` is missing", "error plugins.a.outgoing_http: `outgoing-http` is granted, but"],
    );
}

#[test]
fn the_default_version_is_looked_for_among_those_that_are_listed() {
    let versions = |keys: &str| api(&format!("versions: {{ from: path, {keys} }}"));
    check_all(
        &versions("default: v3, list: [ v1, \"a b\", { name: v2, urll: x } ]"),
        &[
            "versions.list[2].urll: unknown key",
            "versions.list[1]: `a b` is not a version's name",
            "versions.default: there is no version `v3`",
        ],
    );
    // It may be the one that cannot be read.
    check(&versions("default: \"1\", list: [ 1, v2 ]"), "versions.list[0]: expected text");
    check_all(
        &versions("default: v1, list: [ { nam: v1 }, v2 ]"),
        &["versions.list[0].nam: unknown key", "versions.list[0]: `name` is missing"],
    );
    check(&versions("default: v1, list: [ \"${NOT_SET}\" ]"), "versions.list[0]: the environment variable");
    check(&versions("default: a/b, list: [ a/b ]"), "versions.list[0]: `a/b` is not a version's name");
    check(&versions("default: v1"), "versions: `list` is missing");
    check(&versions("default: v1, list: v1"), "versions.list: expected a list");
    check(&api("versions: { name: v, list: [ v1 ] }"), "versions: `from` is missing");
}

#[test]
fn every_hint_says_how_to_write_it() {
    check(
        &gateway("store: { kind: redis, redis: { addresses: [] } }"),
        "error store.redis.addresses: is empty | at least 1, or leave the key out",
    );
    let many = vec!["\"a:1\""; 65].join(", ");
    check(
        &gateway(&format!("store: {{ kind: redis, redis: {{ cluster: true, addresses: [ {many} ] }} }}")),
        "error store.redis.addresses: has 65 items | at most 64",
    );
    check(&gateway("control: [1]"), "control: expected a table of keys, found a list | known keys: `address`");
    check(
        &gateway("policies: 7"),
        "policies: expected a list or a table of keys, found a number | Templates for sessions: a",
    );
    check(&gateway("workers: []"), "workers: expected a whole number, found a list | a plain number, such as `100`");
    check(&api("name: [ x ]"), "apis[0].name: expected text, found a list | one text, such as `key: text`");
    check(&api("auth: 7"), "apis[0].auth: expected a table of keys, found a number | How callers authenticate.");
}

#[test]
fn a_bare_list_of_policies_is_told_what_it_needs() {
    let folder = Folder::new();
    folder.write("stile.yaml", &gateway("policies: { file: policies.yaml }"));
    folder.write("policies.yaml", "- { id: one }\n");
    let hint = "the file needs `policies:` on top, and the list below it";
    let expected = format!("error : expected a table of keys, found a list | {hint}");
    assert_eq!(problems(&folder, "stile.yaml"), [expected]);
}
