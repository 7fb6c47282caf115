//! Rules of the format, one line each.

mod at_once;
mod fetch;
mod folder;
mod outgoing;
mod policies;
mod provenance;
mod reference;
mod versions;

use folder::Folder;

use crate::model::gateway::Gateway;

fn environment(name: &str) -> Option<String> {
    match name {
        "STAGE" => Some("test".to_owned()),
        "SECRET" => Some("hunter2 ".to_owned()),
        "WORD" => Some("hunter2".to_owned()),
        _ => None,
    }
}

/// Problems as `severity path: message | hint`.
#[track_caller]
fn problems(folder: &Folder, file: &str) -> Vec<String> {
    let problems = match crate::spec::read_with(&folder.path(file), &environment) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems.0,
    };
    problems.iter().map(|p| format!("{} {}: {} | {}", p.severity, p.path, p.message, p.hint)).collect()
}

#[track_caller]
fn check_all(yaml: &str, expected: &[&str]) {
    let folder = Folder::new();
    folder.write("a.wasm", "");
    folder.write("b.wasm", "");
    folder.write("stile.yaml", yaml);
    let found = problems(&folder, "stile.yaml");
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(fits, "{yaml}\nexpected {expected:#?}\nfound {found:#?}");
}

/// The configuration has this one problem: a part of `severity path: message | hint`.
#[track_caller]
fn check(yaml: &str, expected: &str) {
    check_all(yaml, &[expected]);
}

/// A whole configuration around the keys of one API.
fn api(keys: &str) -> String {
    let upstream = if keys.contains("upstream:") { "" } else { ", upstream: { url: \"http://127.0.0.1:9\" }" };
    let listen = if keys.contains("listen:") { "" } else { ", listen: { path: /x }" };
    format!(
        "plugins: {{ a: {{ file: a.wasm }}, b: {{ file: b.wasm }} }}\n\
         apis: [ {{ id: x{upstream}{listen}, {keys} }}, {{ id: used, upstream: {{ url: \"http://127.0.0.1:9\" }}, \
         listen: {{ path: /used }}, hooks: {{ pre: [a, b] }} }} ]\n"
    )
}

/// A whole configuration around one plugin.
fn plugin(keys: &str) -> String {
    format!(
        "plugins: {{ a: {{ {keys} }} }}\n\
         apis: [ {{ id: x, listen: {{ path: /x }}, upstream: {{ url: \"http://127.0.0.1:9\" }}, hooks: {{ pre: [a] }} }} ]\n"
    )
}

/// One API without plugins beside other keys.
fn gateway(keys: &str) -> String {
    format!("{keys}\napis: [ {{ id: x, listen: {{ path: /x }}, upstream: {{ url: \"http://127.0.0.1:9\" }} }} ]\n")
}

/// Who sends an ID that is known is not asked for anything else.
#[test]
fn an_id_that_is_not_the_credential_is_warned_of() {
    let of = |auth: &str| api(&format!("auth: {{ plugin: a, {auth} }}"));
    for (auth, credential) in [
        ("id_extractor: { from: header, name: x-user }", "header `authorization`"),
        ("id_extractor: { from: query, name: sid }, credential: { cookie: sid }", "cookie `sid`"),
        ("id_extractor: { from: body, with: xpath, xpath: //user }", "header `authorization`"),
    ] {
        let expected = format!(
            "warning apis[0].auth.id_extractor: the ID is not in the credential (`credential`: {credential}) | whoever sends"
        );
        check(&of(auth), &expected);
    }
    for auth in [
        "id_extractor: { from: header }",
        "id_extractor: { from: header, name: X-Key, with: regex, regex: a }, credential: { header: x-key }",
        "id_extractor: { from: query, name: t }, credential: { query: t }",
    ] {
        check_all(&of(auth), &[]);
    }
}

#[test]
fn a_good_configuration_has_no_problems() {
    check_all(&api("name: X"), &[]);
    check_all(&plugin("file: a.wasm, grants: [log, kv, sessions]"), &[]);
    check_all(&gateway("limits:\n  # all commented out\n"), &[]);
}

#[test]
fn keys_that_are_not_known_are_refused_with_the_closest() {
    check(&gateway("listne: []"), "error listne: unknown key | did you mean `listen`?");
    check(
        &gateway("limits: { connection_max: 1 }"),
        "error limits.connection_max: unknown key | did you mean `connections_max`?",
    );
    check(
        &api("hooks: { pre: [ { plugin: a, onfailure: reject } ] }"),
        "error apis[0].hooks.pre[0].onfailure: unknown key | did you mean `on_failure`?",
    );
    check(
        &gateway("control: { zzz: 1 }"),
        "error control.zzz: unknown key | known keys: `address`, `allow_master_keys`, `body_bytes_max`, `connections_max`, `secret`",
    );
    check(&api("\"a.b\": 1"), "error apis[0][\"a.b\"]: unknown key");
}

#[test]
fn values_of_a_wrong_kind_are_refused_with_an_example() {
    check(
        &gateway("limits: { idle_timeout_ms: 75s }"),
        "error limits.idle_timeout_ms: expected a whole number, found text | milliseconds as a plain number",
    );
    check(
        &gateway("runtime: { memory_bytes_max: 64MB }"),
        "error runtime.memory_bytes_max: expected a whole number, found text | bytes as a plain number",
    );
    check(&gateway("workers: 1.5"), "error workers: expected a whole number, found a fraction");
    check(&gateway("include: x.yaml"), "error include: expected a list, found text | put it in `[` and `]`");
    check(&gateway("control: [1]"), "error control: expected a table of keys, found a list");
    check(&api("name: 7"), "error apis[0].name: expected text, found a number | put it in quotes");
    check(
        &api("hooks: { pre: [ 7 ] }"),
        "error apis[0].hooks.pre[0]: expected text or a table of keys, found a number",
    );
    check(
        &gateway("log: { format: jsn }"),
        "error log.format: `jsn` is not known here | did you mean `json`? One of `auto`, `text`, `json`",
    );
    check(
        &gateway("analytics: { target: kafka }"),
        "error analytics.target: `kafka` is not known here | one of `off`, `log`, `file`",
    );
    check(
        &plugin("file: a.wasm, grants: [lg]"),
        "error plugins.a.grants[0]: `lg` is not known here | did you mean `log`?",
    );
    check(&plugin("file: a.wasm, grants: [sockets]"), "error plugins.a.grants[0]: `sockets` is not known here");
    check(&plugin("limits: {}"), "error plugins.a: `file` is missing | The component file");
    check(&gateway("workers: 1.0"), "error workers: cannot be used");
}

#[test]
fn limits_have_bounds() {
    check(&gateway("workers: 0"), "error workers: 0 is out of bounds | at least 1");
    check(&gateway("limits: { connections_max: 0 }"), "error limits.connections_max: 0 is out of bounds | at least 1");
    check(&gateway("limits: { header_bytes_max: -1 }"), "error limits.header_bytes_max: -1 is out of bounds");
    check(
        &gateway("limits: { drain_timeout_ms: 86400001 }"),
        "error limits.drain_timeout_ms: 86400001 is out of bounds | at most 86400000",
    );
    check(&gateway("runtime: { tick_us: 1 }"), "error runtime.tick_us: 1 is out of bounds | at least 100");
    check(&gateway("plugin_limits: { fuel: 0 }"), "error plugin_limits.fuel: 0 is out of bounds | at least 1");
    check(
        &gateway("plugin_quarantine: { share_min: 0 }"),
        "error plugin_quarantine.share_min: 0 is out of bounds | at least 0.1",
    );
    check(
        &gateway("plugin_quarantine: { pause_min_ms: 60001 }"),
        "error plugin_quarantine: `pause_min_ms` (60001) is above `pause_max_ms` | lower it, or raise `pause_max_ms`",
    );
    check(
        &plugin("file: a.wasm, quarantine: { pause_max_ms: 999 }"),
        "error plugins.a.quarantine: `pause_min_ms` (1000) is above `pause_max_ms`",
    );
    check(
        &plugin("file: a.wasm, limits: { deadline_ms: 0 }"),
        "error plugins.a.limits.deadline_ms: 0 is out of bounds",
    );
    check(
        &plugin("file: a.wasm, limits: { host_calls_max: 5000000000 }"),
        "error plugins.a.limits.host_calls_max: 5000000000 is out of bounds",
    );
    check(&api("request_timeout_ms: 0"), "error apis[0].request_timeout_ms: 0 is out of bounds");
    check(
        &plugin("file: a.wasm, limits: { memory_bytes_max: 536870912 }"),
        "error plugins.a.limits.memory_bytes_max: 536870912 is above `runtime.instance_memory_bytes_max`",
    );
}

#[test]
fn addresses_are_checked() {
    check(
        &gateway("listen: [ { address: localhost } ]"),
        "error listen[0].address: `localhost` is not an IP address with a port",
    );
    check(
        &gateway("listen: [ { address: \"127.0.0.1:1\" }, { address: \"127.0.0.1:1\" } ]"),
        "error listen[1].address: the address is also `listen[0]`'s",
    );
    check_all(&gateway("listen: [ { address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" } ]"), &[]);
    check(
        &gateway("listen: [ { address: \"127.0.0.1:8081\" } ]"),
        "error control.address: callers connect to the same address",
    );
    check(
        &gateway("control: { address: \"0.0.0.0:8081\" }"),
        "warning control.address: the control port can be reached from other machines",
    );
    check(&gateway("trusted_proxies: [ 10.0.0.0/33 ]"), "error trusted_proxies[0]: `10.0.0.0/33` is not a network");
    check(
        &gateway("trusted_proxies: [ 0.0.0.0/0 ]"),
        "warning trusted_proxies[0]: every caller can make up its address",
    );
    check_all(&gateway("trusted_proxies: [ 10.0.0.1, \"fd00::/8\" ]"), &[]);
}

#[test]
fn files_that_are_not_there_are_named_in_full() {
    check(&plugin("file: none.wasm"), "/none.wasm` is not there");
    check(&plugin("file: ."), "is not a file");
    check_all(
        &gateway("listen: [ { address: \"127.0.0.1:1\", tls: { certificate: c.pem, key: a.wasm } } ]"),
        &["error listen[0].tls.certificate: the certificate `/"],
    );
    check(
        &api("upstream: { url: \"https://a\", ca_file: ca.pem }"),
        "error apis[0].upstream.ca_file: the file of certificate authorities",
    );
}

#[test]
fn no_password_of_a_url_is_repeated() {
    for (url, shown) in [
        ("HTTPS://user:password@x/x.wasm", "`HTTPS://***@x/x.wasm` is not a source"),
        ("https://user:pass@word/@x/x.wasm", "`https://***@x/x.wasm` is not a source"),
        ("ftp://x/x.wasm?key=password", "`ftp://x/x.wasm` is not a source"),
        ("ftp://user:pass?word@x/x.wasm", "`ftp` is not a source"),
        ("oci://user:password@x/h@sha256:12", "`oci://***@x/h@sha256:12` is not a source"),
        ("oci://x/h@sha256:12", "`oci://x/h@sha256:12` is not a source"),
    ] {
        check(&plugin(&format!("file: \"{url}\"")), &format!("error plugins.a.file: {shown}"));
    }
    check(&api("upstream: { url: \"http://user:password@a\" }"), "error apis[0].upstream.url: `http://***@a`");
}

#[test]
fn plugins_must_be_declared_and_used() {
    check(
        &api("hooks: { pre: [ aa ] }"),
        "error apis[0].hooks.pre[0]: there is no plugin `aa` | did you mean `a`? Declared are `a`, `b`",
    );
    check(
        &api("hooks: { post: [ { plugin: zzz } ] }"),
        "error apis[0].hooks.post[0].plugin: there is no plugin `zzz` | declared are `a`, `b`",
    );
    check(&api("auth: { plugin: zzz }"), "error apis[0].auth.plugin: there is no plugin `zzz`");
    check(&gateway("plugins: { a: { file: a.wasm } }"), "warning plugins.a: no API uses the plugin");
    check("plugins: { \"a b\": { file: a.wasm } }", "error plugins[\"a b\"]: `a b` is not a plugin's name");
    check(&api("hooks: { pre: [ { plugin: a, function: \"\" } ] }"), "error apis[0].hooks.pre[0].function: is empty");
}

#[test]
fn authentication_and_analytics_never_fail_open() {
    check(
        &api("auth: { plugin: a, on_failure: continue }"),
        "error apis[0].auth.on_failure: `continue` would make a failing plugin switch authentication off",
    );
    check(
        &api("hooks: { analytics: [ { plugin: a, on_failure: continue } ] }"),
        "error apis[0].hooks.analytics[0].on_failure: `continue`",
    );
    check_all(&api("hooks: { pre: [ { plugin: a, on_failure: continue } ] }"), &[]);
    check(
        &api("analytics: { enabled: false }, hooks: { analytics: [ a ] }"),
        "warning apis[0].hooks.analytics: never run: the API records nothing",
    );
    check(
        &format!("analytics: {{ target: off }}\n{}", api("hooks: { analytics: [ a ] }")),
        "warning apis[0].hooks.analytics: never run: records go nowhere",
    );
}

#[test]
fn a_credential_stands_in_one_place() {
    check(
        &api("auth: { plugin: a, credential: {} }"),
        "error apis[0].auth.credential: takes exactly one key | one of `cookie`, `header`, `query`",
    );
    check(
        &api("auth: { plugin: a, credential: { header: a, query: b } }"),
        "error apis[0].auth.credential: takes exactly one key",
    );
    check(
        &api("auth: { plugin: a, credential: { header: \"a b\" } }"),
        "error apis[0].auth.credential.header: `a b` is not a header field's name",
    );
    check_all(&api("auth: { plugin: a, credential: { cookie: sid } }"), &[]);
}

#[test]
fn apis_are_told_apart() {
    let twice = |first: &str, second: &str| {
        let one = |id: &str, listen: &str| {
            format!("{{ id: {id}, listen: {{ {listen} }}, upstream: {{ url: \"http://a\" }} }}")
        };
        format!("apis: [ {}, {} ]", one("one", first), one("two", second))
    };
    check(
        &twice("path: /x", "path: /x/"),
        "error apis[1].listen.path: the API with id `one` listens at the same path | take another",
    );
    check(
        &twice("path: /x, hosts: [ A.b ]", "path: /x, hosts: [ c.d, a.b ]"),
        "listens at the same path on host `a.b`",
    );
    check_all(&twice("path: /x, hosts: [ a.b ]", "path: /x"), &[]);
    check(&twice("path: /x", "path: /y").replace("two", "one"), "error apis[1].id: `one` is the id of another API");
    check("apis: []", "warning apis: there is no API");
    check(
        &api("id: \"a b\"").replacen("id: x, ", "", 1).replacen("id: x", "", 1),
        "error apis[0].id: `a b` is not an id",
    );
}

#[test]
fn an_api_says_where_it_listens_and_sends() {
    check(
        &api("listen: { path: x }"),
        "error apis[0].listen.path: `x` is not a listen path: path does not begin with `/`",
    );
    check(
        &api("listen: { path: /x, hosts: [ \"a:80\" ] }"),
        "error apis[0].listen.hosts[0]: `a:80` is not a host: a port has no place here",
    );
    check(&api("listen: { path: /x, hosts: [ a, A ] }"), "error apis[0].listen.hosts[1]: `A` is listed twice");
    check(&api("upstream: { url: localhost }"), "error apis[0].upstream.url: `localhost` is not an upstream's URL");
    check(&api("upstream: { url: \"http://a\", server_name: b }"), "warning apis[0].upstream.server_name: is not used");
    check(
        &api("hooks: { endpoint: [ { path: \"/{\", plugin: a } ] }"),
        "error apis[0].hooks.endpoint[0].path: `/{` is not a path template",
    );
    check(
        &api("hooks: { endpoint: [ { method: get, path: /, plugin: a } ] }"),
        "error apis[0].hooks.endpoint[0].method: `get` is not a method",
    );
}

#[test]
fn parts_that_do_not_fit_together_are_told() {
    check(
        &api("request_timeout_ms: 50, hooks: { pre: [ a, a ] }"),
        "warning apis[0].request_timeout_ms: plugin `a` may take 100 ms",
    );
    check(&plugin("file: a.wasm, reuse_calls_max: 5"), "warning plugins.a.reuse_calls_max: is not used");
    check(&plugin("file: a.wasm, isolation: reuse, reuse_memory_high_water_bytes: 99999999"), "never bites");
    check(&gateway("analytics: { target: file }"), "error analytics: `target: file` needs `file`");
    check(&gateway("analytics: { file: x }"), "warning analytics.file: is not used");
    check(&gateway("log: { filter: \"a=b=c\" }"), "error log.filter: `a=b=c` is not a log filter");
}

#[test]
fn the_store_is_named_in_full_or_not_at_all() {
    check_all(&gateway("store: { kind: memory }"), &[]);
    check_all(&gateway("store: { embedded: { path: keys.redb } }"), &[]);
    check(&gateway("store: { kind: disk }"), "error store.kind: ");
    check(&gateway("store: { kind: memory, embedded: {} }"), "warning store.embedded: is not used | it belongs to");
    check(
        &gateway("store: { kind: memory, records_max: 10, plugin_sessions_max: 10 }"),
        "error store.plugin_sessions_max: 10 is all that `records_max` has | leave room for operators' keys",
    );
    check(
        &gateway("store: { kind: memory, counters_max: 50, plugin_counters_max: 80 }"),
        "error store.plugin_counters_max: 80 is all",
    );
    check_all(&gateway("store: { kind: memory, records_max: 10, plugin_sessions_max: 9 }"), &[]);
    check(&gateway("store: { redis: {} }"), "warning store.redis: is not used | it belongs to `kind: redis`");
    let redis = |keys: &str| gateway(&format!("store: {{ kind: redis, redis: {{ {keys} }} }}"));
    check_all(&redis("addresses: [ \"a:1\", \"[::1]:2\" ], cluster: true, tls: {}"), &[]);
    check(&redis("addresses: [ a ]"), "error store.redis.addresses[0]: `a` is not a host with a port | such as");
    check(
        &redis("addresses: [ \"a:1\", \"b:1\" ]"),
        "error store.redis.addresses: several addresses, but no cluster | set",
    );
    check(&redis("cluster: true, database: 1"), "error store.redis.database: a cluster has no database but 0");
    check(&redis("backoff_min_ms: 100, backoff_max_ms: 50"), "warning store.redis.backoff_max_ms: is below");
    check(&redis("tls: { key: a.wasm }"), "error store.redis.tls: `certificate` and `key` go together");
    check(&redis("tls: { ca_file: none.pem }"), "error store.redis.tls.ca_file: the certificate authority `");
}

#[test]
fn the_secret_of_the_control_port_is_one() {
    check_all(&gateway("control: { secret: \"${WORD}-hunter2\" }"), &[]);
    for secret in ["short", "with a blank", "ümläute"] {
        let config = gateway(&format!("control: {{ secret: {secret} }}"));
        check(&config, "error control.secret: is not 8 to 256 visible ASCII characters | make one with");
    }
}

#[test]
fn values_of_the_environment_are_never_shown() {
    check_all(&api("name: \"${STAGE}\""), &[]);
    check(&api("name: \"${NOT_SET}\""), "error apis[0].name: the environment variable `NOT_SET` is not set");
    for text in [
        api("upstream: { url: \"${SECRET}\" }"),
        api("hooks: { endpoint: [ { path: \"/{${SECRET}\", plugin: a } ] }"),
        api("hooks: { pre: [ \"${SECRET}\" ] }"),
        api("request_timeout_ms: \"${SECRET}\""),
        api("listen: { path: \"${SECRET}\", hosts: [ \"${SECRET}\" ] }"),
        api("id: \"x${SECRET}\"").replacen("id: x, ", "", 1),
        api("listen: { path: /x, hosts: [ \"a${WORD}\", \"A${WORD}\" ] }"),
        api("listen: { path: /used, hosts: [] }").replacen("id: used", "id: \"${WORD}\"", 1),
        gateway("log: { format: \"${SECRET}\" }"),
        gateway("include: [ \"${SECRET}/*.yaml\" ]"),
        gateway("control: { secret: \"${SECRET}\" }"),
        gateway("store: { kind: redis, redis: { addresses: [ \"${SECRET}\" ] } }"),
        plugin("file: \"${SECRET}\""),
    ] {
        let folder = Folder::new();
        folder.write("a.wasm", "");
        folder.write("b.wasm", "");
        folder.write("stile.yaml", &text);
        let found = problems(&folder, "stile.yaml");
        assert!(!found.is_empty(), "{text}");
        assert!(!format!("{found:?}").contains("hunter2"), "{text}: {found:#?}");
    }
}

#[test]
fn all_problems_come_at_once() {
    check_all(
        "workers: 0\n\
         plugins: { a: { file: none.wasm }, b: { fil: b.wasm } }\n\
         apis:\n\
         - { id: one, listen: { path: x }, upstream: { url: \"http://a\" }, hooks: { pre: [ b, c ] } }\n\
         - { id: two, lisen: { path: /x }, upstream: { url: \"http://a\" } }\n",
        &[
            "error apis[1]: `listen` is missing",
            "error apis[1].lisen: unknown key",
            "error plugins.b.fil: unknown key | did you mean `file`?",
            "error plugins.b: `file` is missing",
            "error workers: 0 is out of bounds",
            "error plugins.a.file: the plugin file",
            "error apis[0].listen.path: `x` is not a listen path",
            "error apis[0].hooks.pre[1]: there is no plugin `c`",
        ],
    );
}

/// What has the wrong shape, in the file as a whole or in a part, does not hide what else is wrong.
#[test]
fn a_problem_of_shape_hides_no_other_problem() {
    // In one API: a key that is not known, one that is missing, an item, a value.
    check_all(
        "plugins: { a: { file: a.wasm } }\n\
         apis:\n\
         - { id: \"a b\", lisen: { path: /x }, upstream: { url: nowhere }, hooks: { pre: [ 7, b ] } }\n\
         - { id: two, listen: { pth: x, hosts: [ \"a:80\" ] }, upstream: { url: \"http://a\", idle_timeout_ms: 5s } }\n\
         - { id: three, listen: { path: x }, auth: { plugin: c, require: al, id_extractor: { from: cookie } } }\n",
        &[
            "error apis[0]: `listen` is missing",
            "error apis[0].hooks.pre[0]: expected text or a table of keys",
            "error apis[0].lisen: unknown key",
            "error apis[1].listen.pth: unknown key",
            "error apis[1].listen: `path` is missing",
            "error apis[1].upstream.idle_timeout_ms: expected a whole number",
            "error apis[2]: `upstream` is missing",
            "error apis[2].auth.require: `al` is not known here",
            "error apis[0].id: `a b` is not an id",
            "error apis[0].upstream.url: `nowhere` is not an upstream's URL",
            "error apis[0].hooks.pre[1]: there is no plugin `b`",
            "error apis[1].listen.hosts[0]: `a:80` is not a host",
            "error apis[2].listen.path: `x` is not a listen path",
            "error apis[2].auth.plugin: there is no plugin `c`",
            "error apis[2].auth.id_extractor: `name` is missing",
        ],
    );
    // In one section: its other keys, and the items after a broken one.
    check_all(
        &gateway(
            "listen: [ 7, { address: a }, { address: \"127.0.0.1:1\" }, { address: \"127.0.0.1:1\" } ]\n\
             control: { secret: short, zzz: 1 }\nlog: { format: jsn, filter: \"a=b=c\" }\n\
             trusted_proxies: [ 1, 10.0.0.0/33 ]\nworkers: 1.0",
        ),
        &[
            "error control.zzz: unknown key",
            "error listen[0]: expected a table of keys",
            "error log.format: `jsn` is not known",
            "error trusted_proxies[0]: expected text",
            "error workers: cannot be used",
            "error listen[1].address: `a` is not",
            "error control.secret: is not 8 to 256",
            "error listen[3].address: the address is also `listen[2]`'s",
            "error trusted_proxies[1]: `10.0.0.0/33` is not a network",
            "error log.filter: `a=b=c` is not",
        ],
    );
    // Between parts, where the gateway's own settings or some other part are broken.
    check_all(
        "log: { filter: \"a=b=c\" }\n\
         plugins: { a: { file: a.wasm, limits: { memory_bytes_max: 536870912 } } }\n\
         apis:\n\
         - { id: one, listen: { path: /x }, upstream: { url: \"http://a\" }, hooks: { pre: [ c ] } }\n\
         - { id: two, listen: { path: /y }, upstream: { url: \"http://a\" } }\n\
         - { id: two, listen: { path: /y/ }, upstream: { url: \"http://a\" } }\n",
        &[
            "error apis[0].hooks.pre[0]: there is no plugin `c`",
            "error log.filter: `a=b=c` is not",
            "error apis[2].id: `two` is the id of another API",
            "error apis[2].listen.path: the API with id `two` listens at the same path",
            "error plugins.a.limits.memory_bytes_max: 536870912 is above",
        ],
    );
    // Within what used to end at its first problem.
    check_all(
        &gateway(
            "store: { kind: redis, redis: { addresses: [ \"a:1\", \"b\" ], database: 70000, tls: { ca_file: none.pem, key: none.pem } } }",
        ),
        &[
            "error store.redis.database: 70000 is out of bounds",
            "error store.redis.addresses[1]: `b` is not a host",
            "error store.redis.addresses: several addresses, but no cluster",
            "error store.redis.tls.ca_file: the certificate authority",
            "error store.redis.tls.key: the key",
            "error store.redis.tls: `certificate` and `key` go together",
        ],
    );
}

/// What follows from a problem that was told is not told beside it.
#[test]
fn a_problem_of_shape_makes_up_no_other_problem() {
    check(&api("auth: { plugin: 7, config: { a: 1 } }"), "error apis[0].auth.plugin: expected text");
    check(&gateway("analytics: { target: file, file: 7 }"), "error analytics.file: expected text");
    check(&gateway("store: { kind: rdis, redis: {} }"), "error store.kind: `rdis` is not known here");
    check(&plugin("file: a.wasm, isolation: resue, reuse_calls_max: 5"), "error plugins.a.isolation: `resue`");
    check(&api("upstream: { url: \"${NOT_SET}\" }"), "error apis[0].upstream.url: the environment variable");
    check(&gateway("include: [ \"${NOT_SET}/a.yaml\" ]"), "error include[0]: the environment variable");
    check(&gateway("workers: \"${NOT_SET}\""), "error workers: the environment variable");
}

#[test]
fn every_file_is_read_whatever_is_wrong_with_the_others() {
    let folder = Folder::new();
    folder.write(
        "stile.yaml",
        "workers: 1.0\ninclude: [ 7, none.yaml, broken.yaml, more.yaml ]\npolicies: { file: policies.yaml, tyk_file: tyk, zzz: 1 }\n\
         plugins: { a: { fil: a.wasm } }\n",
    );
    folder.write("broken.yaml", "apis: [");
    folder.write(
        "more.yaml",
        "apis: [ { id: x, listen: { path: x } } ]\npolicies: [ { ids: p, quota: { requests: 0 } } ]",
    );
    folder
        .write("policies.yaml", "policies: [ { id: '', ratee: 1 }, { id: p, rate: { requests: 0, per_seconds: 1 } } ]");
    folder.write("tyk/one.json", "{");
    folder.write("tyk/two.json", r#"{ "id": "two", "rate": 3, "hmac_enabled": true }"#);
    let problems = crate::spec::read(&folder.path("stile.yaml")).expect_err("problems").to_string();
    for expected in [
        "stile.yaml: workers: cannot be used",
        "stile.yaml: include[0]: expected text",
        "none.yaml: cannot be read",
        "broken.yaml: not valid YAML",
        "stile.yaml: policies.zzz: unknown key",
        "stile.yaml: plugins.a.fil: unknown key",
        "more.yaml: apis[0].listen.path: `x` is not a listen path",
        "more.yaml: apis[0]: `upstream` is missing",
        "more.yaml: policies[0].ids: unknown key",
        "more.yaml: policies[0].quota.requests: 0 would mean no limit",
        "policies.yaml: policies[0].ratee: unknown key",
        "policies.yaml: policies[0].id: `` is not an id",
        "policies.yaml: policies[1].rate.requests: 0 would mean no limit",
        "one.json: not valid JSON",
        "two.json: per: the rate cannot be counted",
        "two.json: hmac_enabled: requests that are signed",
    ] {
        assert!(problems.contains(expected), "{expected} is not in\n{problems}");
    }
}

#[test]
fn files_are_included_with_paths_of_their_own() {
    let folder = Folder::new();
    folder.write("stile.yaml", "include: [ \"apis/*.yaml\", \"more.toml\" ]");
    folder.write("apis/one.yaml", "plugins: { a: { file: a.wasm } }");
    folder.write("apis/a.wasm", "");
    folder.write("more.toml", "[[apis]]\nid = 'x'\nlisten.path = '/x'\nupstream.url = 'http://a'\nhooks.pre = ['a']\n");
    let (gateway, warnings) = crate::spec::read(&folder.path("stile.yaml")).expect("a configuration");
    assert_eq!(warnings, []);
    let files: Vec<_> = gateway.plugins.iter().map(|p| p.source.file()).collect();
    assert_eq!(files, [Some(&*folder.path("apis/a.wasm"))]);

    folder.write("apis/two.yaml", "plugins: { a: { file: a.wasm } }\nlisten: []");
    let problems = crate::spec::read(&folder.path("stile.yaml")).expect_err("problems");
    let text = problems.to_string();
    assert!(text.contains("apis/two.yaml: listen: unknown key"), "{text}");
    assert!(text.contains("apis/two.yaml: plugins.a: plugin `a` is declared twice"), "{text}");
}

#[test]
fn files_that_cannot_be_read_are_problems() {
    let folder = Folder::new();
    folder.write("stile.yaml", "include: [ none.yaml ]\n");
    assert!(problems(&folder, "stile.yaml").iter().any(|p| p.contains("cannot be read")));
    assert!(problems(&folder, "none.yaml").iter().any(|p| p.contains("cannot be read")));
    folder.write("stile.yaml", "include: [ \"none/*.yaml\", \"*/x.yaml\", \"x*.yaml\" ]\n");
    let found = problems(&folder, "stile.yaml").join("\n");
    for part in ["error include[0]: folder", "error include[1]: `*` stands", "warning include[2]: no file fits"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    folder.write("stile.txt", "");
    assert!(problems(&folder, "stile.txt").iter().any(|p| p.contains("neither YAML nor TOML")));
    folder.write("stile.yaml", "- 1\n");
    let found = problems(&folder, "stile.yaml").join("\n");
    assert!(found.starts_with("error : expected a table of keys, found a list | known keys: "), "{found}");
}

#[test]
fn yaml_and_toml_give_the_same_model() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/definitions/");
    let read = |file: &str| -> Gateway {
        let path = std::path::Path::new(folder).join(file);
        let (mut gateway, warnings) = crate::spec::read_with(&path, &environment).unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(warnings, []);
        assert_eq!(std::mem::take(&mut gateway.sources), [path]);
        gateway
    };
    assert_eq!(format!("{:#?}", read("full.yaml")), format!("{:#?}", read("full.toml")));
}
