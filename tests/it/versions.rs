//! Versions of an API: where they stand, what they change, and who may call which.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile::model::key::KeyHash;
use stile::model::session::{AccessRight, AllowedUrl, Session};
use stile::store::Life;
use stile_tests::{Api, Builder, Gateway, Reply, Upstream, Use, api, plugin};

const MISSING: (u16, &str) = (403, "Version information not found");
const UNKNOWN: (u16, &str) = (404, "This API version does not seem to exist");
const EXPIRED: (u16, &str) = (403, "Api Version has expired, please check documentation or contact administrator");
const NO_API: (u16, &str) = (403, "Access to this API has been disallowed");
const NO_RESOURCE: (u16, &str) = (403, "Access to this resource has been disallowed");

/// An API with the versions `v1` and `v2`, whose plugin tells what it sees; `more` adds to `versions`.
fn versioned(upstream: &Upstream, more: Value) -> Api {
    let fields = more.as_object().expect("keys").iter();
    fields.fold(bare(upstream).pre(probe(json!([]))), |api, (key, value)| {
        api.set(&format!("/versions/{key}"), value.clone())
    })
}

fn bare(upstream: &Upstream) -> Api {
    api("orders").upstream(upstream).set("/versions/list", json!(["v1", "v2"]))
}

fn probe(write: Value) -> Use {
    plugin("probe").function("everything").config(json!({ "write": write }))
}

/// A gateway that grants the plugin what it may do in some tests.
fn serving(api: Api) -> Builder {
    Gateway::with(api).grant("probe", ["upstream", "session-limits"])
}

fn in_header() -> Value {
    json!({ "from": "header", "name": "x-api-version" })
}

#[track_caller]
fn refused(reply: &Reply, (status, message): (u16, &str)) {
    assert_eq!((reply.status(), &reply.json()["error"]), (status, &Value::from(message)));
}

/// The version that the plugin saw in the last request.
#[track_caller]
fn saw(upstream: &Upstream) -> Option<String> {
    let last = upstream.last();
    let report = last.header("x-saw-pre").expect("a report");
    report.split(';').find_map(|pair| pair.strip_prefix("version=")).map(str::to_owned)
}

#[tokio::test]
async fn a_version_stands_in_a_header() {
    let upstream = Upstream::start();
    let gateway = serving(versioned(&upstream, in_header())).start().await;
    let ask = async |versions: &[&str]| {
        let call =
            versions.iter().fold(gateway.get("/orders/1"), |call, version| call.header("X-Api-Version", version));
        call.send().await
    };

    assert_eq!(ask(&["v2"]).await.status(), 200);
    assert_eq!((saw(&upstream).as_deref(), upstream.last().headers("x-api-version")), (Some("v2"), vec!["v2"]));
    refused(&ask(&[]).await, MISSING);
    refused(&ask(&[""]).await, MISSING);
    for versions in [&["v3"][..], &["V1"], &["v1, v2"], &["v1", "v2"], &["v1", "v1"]] {
        refused(&ask(versions).await, UNKNOWN);
    }
    assert_eq!(upstream.calls(), 1);
    let refusals = |reason: &str| gateway.metric("stile_refusals_total", &[("api", "orders"), ("reason", reason)]);
    assert_eq!((refusals("version_missing"), refusals("version_unknown")), (2.0, 5.0));
    let requests = |version: &str| gateway.metric("stile_version_requests_total", &[("version", version)]);
    assert_eq!((requests("v1"), requests("v2"), requests("v3")), (0.0, 1.0, 0.0));
}

/// Otherwise a caller with a right to the gateway's default could reach the upstream's, if that is another one.
#[tokio::test]
async fn the_upstream_is_told_the_default_too_unless_the_version_is_taken_off() {
    let upstream = Upstream::start();
    let with = |from: Value, strip: bool| {
        versioned(&upstream, from).set("/versions/default", "v1").set("/versions/strip", strip).strip()
    };
    let in_query = || json!({ "from": "query", "name": "v" });
    for (from, strip, path, header, target) in [
        (in_header(), false, "/orders/a?b=%7e", Some("v1"), "/a?b=%7e"),
        (in_header(), true, "/orders/a", None, "/a"),
        (in_query(), false, "/orders/a", None, "/a?v=v1"),
        (in_query(), false, "/orders/a?b=%7e&v=&c", None, "/a?b=%7e&v=v1&c"),
        (in_query(), true, "/orders/a?b=%7e", None, "/a?b=%7e"),
        (in_query(), true, "/orders/a", None, "/a"),
        (json!({ "from": "path" }), false, "/orders/a?b=%7e", None, "/v1/a?b=%7e"),
        (json!({ "from": "path" }), true, "/orders/a", None, "/a"),
        (json!({ "from": "path" }), true, "/orders/v3/a", None, "/v3/a"),
        (json!({ "from": "path" }), false, "/orders", None, "/v1/"),
    ] {
        let gateway = serving(with(from.clone(), strip)).start().await;
        assert_eq!(gateway.get(path).send().await.status(), 200, "{from} {strip} {path}");
        let last = upstream.last();
        assert_eq!((last.header("x-api-version"), last.target.as_str()), (header, target), "{from} {strip} {path}");
        assert_eq!(saw(&upstream).as_deref(), Some("v1"), "{from} {strip} {path}");
    }
}

#[tokio::test]
async fn a_version_stands_in_a_query_parameter() {
    let upstream = Upstream::start();
    let in_query = json!({ "from": "query", "name": "v" });
    let off = versioned(&upstream, in_query.clone()).set("/id", "off").path("/off").set("/versions/strip", true);
    let gateway = serving(versioned(&upstream, in_query)).and(off).start().await;

    for (path, expected) in [
        ("/orders/1?b=%7e&v=v2&c", "/orders/1?b=%7e&v=v2&c"),
        ("/orders/1?%76=v%32", "/orders/1?%76=v%32"),
        ("/off/1?b=%7e&v=v2&c", "/off/1?b=%7e&c"),
        ("/off/1?v=v2", "/off/1"),
    ] {
        assert_eq!(gateway.get(path).send().await.status(), 200, "{path}");
        assert_eq!((upstream.last().target.as_str(), saw(&upstream).as_deref()), (expected, Some("v2")));
    }
    refused(&gateway.get("/orders/1?b=v2").send().await, MISSING);
    refused(&gateway.get("/orders/1?v=v1&v=v2").send().await, UNKNOWN);
    refused(&gateway.get("/orders/1?v=v1&%76=v2").send().await, UNKNOWN);
    refused(&gateway.get("/orders/1?v=v3").send().await, UNKNOWN);
}

#[tokio::test]
async fn a_version_stands_in_the_path_and_hooks_match_below_it() {
    let upstream = Upstream::start();
    let trace = || plugin("trace").function("trace").config(json!({ "tag": "met" }));
    let in_path = |listen_strip: bool, strip: bool| {
        versioned(&upstream, json!({ "from": "path", "strip": strip })).set("/listen/strip", listen_strip).endpoint(
            "GET",
            "/users/{id}",
            trace(),
        )
    };
    for (listen_strip, strip, expected) in [
        (false, false, "/orders/v2/users/7"),
        (false, true, "/orders/users/7"),
        (true, false, "/v2/users/7"),
        (true, true, "/users/7"),
    ] {
        let gateway = serving(in_path(listen_strip, strip)).start().await;
        for path in ["/orders/v2/users/7", "/orders/%762/users/7", "/orders//x/../v2/./users/7"] {
            assert_eq!(gateway.get(path).send().await.status(), 200, "{path}");
            let last = upstream.last();
            assert_eq!((last.target.as_str(), last.header("x-trace-params")), (expected, Some("id=7")), "{path}");
            assert_eq!(saw(&upstream).as_deref(), Some("v2"));
        }
        let before = upstream.calls();
        refused(&gateway.get("/orders").send().await, MISSING);
        refused(&gateway.get("/orders/").send().await, MISSING);
        for path in ["/orders/users/7", "/orders/v22/users/7", "/orders/V2/users/7", "/orders/v2%3B/users/7"] {
            refused(&gateway.get(path).send().await, UNKNOWN);
        }
        assert_eq!(gateway.get("/orders/v2%2fusers/7").send().await.status(), 400);
        assert_eq!(upstream.calls(), before);
    }
}

#[tokio::test]
async fn the_root_of_an_api_has_versions_too() {
    let upstream = Upstream::start();
    for (strip, targets) in [(false, ["/v1/", "/v1/", "/v1/a"]), (true, ["/", "/", "/a"])] {
        let definition = versioned(&upstream, json!({ "from": "path", "strip": strip })).path("/");
        let gateway = serving(definition).start().await;
        for (path, target) in ["/v1", "/v1/", "/v1/a"].into_iter().zip(targets) {
            assert_eq!(gateway.get(path).send().await.status(), 200, "{path}");
            assert_eq!(upstream.last().target, target, "{path}");
        }
    }
}

/// Rights were looked at for the version that the caller asked for; what plugins write must not lead to another one.
#[tokio::test]
async fn what_a_plugin_writes_afterwards_changes_no_version() {
    let upstream = Upstream::start();
    let writing = |from: Value, what: &str| {
        let definition = bare(&upstream).strip().pre(probe(json!([what]))).post(probe(json!([])));
        from.as_object()
            .expect("keys")
            .iter()
            .fold(definition, |api, (key, value)| api.set(&format!("/versions/{key}"), value.clone()))
    };
    let seen_last = || {
        let last = upstream.last();
        let report = last.header("x-saw-post").expect("a report").to_owned();
        (last.target.clone(), last.headers("x-probe").join(","), report.contains(";version=v1;"))
    };

    let header = json!({ "from": "header", "name": "x-probe" });
    for what in ["header", "append", "remove"] {
        let gateway = serving(writing(header.clone(), what)).start().await;
        assert_eq!(gateway.get("/orders/a").header("x-probe", "v1").send().await.status(), 200);
        assert_eq!(seen_last(), ("/a".to_owned(), "v1".to_owned(), true), "{what}");
    }
    for (name, what, target) in [
        ("v", "query", "/a?written=1&v=v1"),
        ("written", "param", "/a?written=v1"),
        ("written", "query", "/a?written=v1"),
    ] {
        let query = json!({ "from": "query", "name": name });
        let gateway = serving(writing(query, what)).start().await;
        assert_eq!(gateway.get(&format!("/orders/a?{name}=v1")).send().await.status(), 200);
        assert_eq!(seen_last(), (target.to_owned(), String::new(), true), "{name} {what}");
    }
    for listen_strip in [true, false] {
        let path = writing(json!({ "from": "path" }), "path").set("/listen/strip", listen_strip);
        let gateway = serving(path).start().await;
        assert_eq!(gateway.get("/orders/v1/a").send().await.status(), 200);
        assert_eq!(seen_last(), ("/v1/written".to_owned(), String::new(), true));
    }
}

async fn keep(gateway: &Gateway, token: &str, right: AccessRight) {
    let session = Session { access_rights: vec![right], ..Session::default() };
    let kept = gateway.store().create_session(&KeyHash::of(token), &session, Life::Forever).await;
    assert!(kept.expect("the store is there"));
}

#[tokio::test]
async fn a_right_to_one_version_is_none_to_another() {
    let upstream = Upstream::start();
    let keyed = versioned(&upstream, in_header()).set("/versions/default", "v2").set("/auth", json!({}));
    let plain = api("plain").upstream(&upstream).set("/auth", json!({}));
    let gateway = serving(keyed).and(plain).start().await;
    let right = |versions: &[&str]| AccessRight {
        api_id: "orders".to_owned(),
        versions: versions.iter().map(|&version| version.to_owned()).collect(),
        ..AccessRight::default()
    };
    keep(&gateway, "one-token", right(&["v1"])).await;
    keep(&gateway, "all-token", right(&[])).await;
    keep(&gateway, "none-token", right(&["v3"])).await;
    // Tyk's word for an API without versions, which has them all the same.
    keep(&gateway, "plain-token", AccessRight { api_id: "plain".to_owned(), ..right(&["Default"]) }).await;
    let ask = async |token: &str, version: Option<&str>| {
        let call = gateway.get("/orders/1").header("authorization", token);
        version.into_iter().fold(call, |call, version| call.header("x-api-version", version)).send().await
    };

    assert_eq!(ask("one-token", Some("v1")).await.status(), 200);
    refused(&ask("one-token", Some("v2")).await, NO_API);
    refused(&ask("one-token", None).await, NO_API);
    assert_eq!(ask("all-token", Some("v2")).await.status(), 200);
    refused(&ask("none-token", Some("v1")).await, NO_API);
    // Who calls is asked only where there is such a version.
    refused(&ask("nobody", Some("v3")).await, UNKNOWN);
    assert_eq!(gateway.get("/plain/1").header("authorization", "plain-token").send().await.status(), 200);
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn patterns_of_rights_match_the_path_with_its_version() {
    let upstream = Upstream::start();
    for listen_strip in [true, false] {
        let keyed = versioned(&upstream, json!({ "from": "path" })).set("/auth", json!({}));
        let gateway = serving(keyed.set("/listen/strip", listen_strip)).start().await;
        let to = |url: &str| AccessRight {
            api_id: "orders".to_owned(),
            allowed_urls: vec![AllowedUrl { url: url.to_owned(), methods: vec!["GET".to_owned()] }],
            ..AccessRight::default()
        };
        keep(&gateway, "below-token", to("/v1/users")).await;
        keep(&gateway, "whole-token", to("/orders/v1/users$")).await;
        keep(&gateway, "each-token", to("/{version}/users")).await;
        keep(&gateway, "bare-token", to("/users")).await;
        let ask = async |token: &str, path: &str| gateway.get(path).header("authorization", token).send().await;

        for (token, granted) in
            [("below-token", &[1][..]), ("whole-token", &[1]), ("each-token", &[1, 2]), ("bare-token", &[])]
        {
            for version in [1, 2] {
                let reply = ask(token, &format!("/orders/v{version}/users")).await;
                let expected = if granted.contains(&version) { 200 } else { 403 };
                assert_eq!(reply.status(), expected, "{token} {version} {listen_strip}");
            }
            // Another resource, of the second version.
            refused(&ask(token, "/orders/v2/v1/users").await, NO_RESOURCE);
        }
    }
}

/// A right to what the default version has is one by either way, and a way around no right.
#[tokio::test]
async fn patterns_of_rights_match_the_default_version_as_if_the_path_named_it() {
    let upstream = Upstream::start();
    let keyed = versioned(&upstream, json!({ "from": "path", "default": "v1" })).set("/auth", json!({}));
    let gateway = serving(keyed).start().await;
    let allowed_urls = vec![AllowedUrl { url: "/v1/users".to_owned(), methods: vec!["GET".to_owned()] }];
    let right = AccessRight { api_id: "orders".to_owned(), allowed_urls, ..AccessRight::default() };
    keep(&gateway, "token", right).await;
    let ask = async |path: &str| gateway.get(path).header("authorization", "token").send().await;

    assert_eq!(ask("/orders/users").await.status(), 200);
    assert_eq!(ask("/orders/v1/users").await.status(), 200);
    refused(&ask("/orders/v1/v1/users").await, NO_RESOURCE);
    refused(&ask("/orders/v2/users").await, NO_RESOURCE);
    refused(&ask("/orders/v3/v1/users").await, NO_RESOURCE);
}

#[tokio::test]
async fn a_version_may_go_to_an_upstream_of_its_own() {
    let (first, second, third) = (Upstream::start(), Upstream::start(), Upstream::start());
    let list = json!(["v1", { "name": "v2", "url": format!("{}/base", second.url()) }]);
    let definition = bare(&first).strip().set("/versions", in_header()).set("/versions/list", list);
    let elsewhere =
        plugin("probe").function("everything").config(json!({ "write": ["upstream"], "origin": third.url() }));
    let moved = definition.clone().set("/id", "moved").path("/moved").pre(elsewhere);
    let gateway = serving(definition).and(moved).start().await;
    let ask =
        async |path: &str, version: &str| gateway.get(path).header("x-api-version", version).send().await.status();

    assert_eq!(ask("/orders/1", "v1").await, 200);
    assert_eq!((first.calls(), first.last().target.as_str()), (1, "/1"));
    assert_eq!(ask("/orders/1?a", "v2").await, 200);
    assert_eq!((second.calls(), second.last().target.as_str()), (1, "/base/1?a"));
    assert_eq!(second.last().header("host"), Some(second.url().trim_start_matches("http://")));
    assert_eq!(first.calls(), 1);
    // Where a plugin may send requests elsewhere, it may do so with every version.
    assert_eq!(ask("/moved/1", "v2").await, 200);
    assert_eq!((third.calls(), third.last().target.as_str()), (1, "/base/1"));
}

#[tokio::test]
async fn a_version_expires_and_says_so_before() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_798_761_600_000 - 60_000));
    let list = json!(["v1", { "name": "v2", "expires": "2027-01-01T00:00:00Z" }]);
    let definition = bare(&upstream).set("/versions", in_header()).set("/versions/list", list).set("/auth", json!({}));
    let gateway = Gateway::with(definition).clock(&clock).start().await;
    keep(&gateway, "ana-token", AccessRight { api_id: "orders".to_owned(), ..AccessRight::default() }).await;
    let ask = async |version: &str, token: &str| {
        gateway.get("/orders/1").header("x-api-version", version).header("authorization", token).send().await
    };
    let told = |reply: &Reply| {
        let told = ["sunset", "x-tyk-api-expires"].map(|name| reply.header(name).map(str::to_owned));
        (reply.status(), told)
    };
    let times = ["Fri, 01 Jan 2027 00:00:00 GMT", "Fri, 01 Jan 2027 00:00:00 UTC"].map(|time| Some(time.to_owned()));

    assert_eq!(told(&ask("v1", "ana-token").await), (200, [None, None]));
    assert_eq!(told(&ask("v2", "ana-token").await), (200, times.clone()));
    // Who is refused for another reason is told too.
    assert_eq!(told(&ask("v2", "nobody").await), (403, times.clone()));
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(ask("v2", "ana-token").await.status(), 200);
    clock.advance(Duration::from_millis(1));
    let late = ask("v2", "ana-token").await;
    refused(&late, EXPIRED);
    assert_eq!(told(&late), (403, times));
    assert_eq!(ask("v1", "ana-token").await.status(), 200);
    assert_eq!(gateway.metric("stile_refusals_total", &[("reason", "version_expired")]), 1.0);
    assert_eq!(gateway.metric("stile_version_requests_total", &[("version", "v2")]), 4.0);
}

#[tokio::test]
async fn records_and_response_hooks_have_the_version() {
    let upstream = Upstream::start();
    let response = probe(json!([])).of_upstream();
    let in_path = versioned(&upstream, json!({ "from": "path" })).response(response).recorded();
    let plain = api("plain").upstream(&upstream).recorded();
    let gateway = serving(in_path).and(plain).recording().start().await;

    let reply = gateway.get("/orders/v2/a").send().await;
    assert!(reply.header("x-saw-response").is_some_and(|saw| saw.contains(";version=v2;")), "{reply:?}");
    refused(&gateway.get("/orders/v3/a").send().await, UNKNOWN);
    gateway.get("/plain/a").send().await;

    let mut records: Vec<[Value; 4]> = gateway.records(3).await.iter().map(of_record).collect();
    records.sort_by_key(|record| record[3].to_string());
    let record = |version: &str, path: &str, raw: &str, original: &str| [version, path, raw, original].map(Value::from);
    let expected = [
        record("v2", "/orders/a", "/orders/v2/a", "/orders/v2/a"),
        record("Non Versioned", "/orders/v3/a", "/orders/v3/a", "/orders/v3/a"),
        record("Non Versioned", "/plain/a", "/plain/a", "/plain/a"),
    ];
    assert_eq!(records, expected);
}

fn of_record(record: &Value) -> [Value; 4] {
    ["api_version", "path", "raw_path", "original_path"].map(|field| record[field].clone())
}

#[tokio::test]
async fn the_version_comes_first_in_the_order_of_work() {
    let upstream = Upstream::start();
    let list = json!(["v1", { "name": "v2", "url": "http://127.0.0.1:9/base", "expires": "2999-01-01T00:00:00Z" }]);
    let definition = versioned(&upstream, json!({ "from": "path", "default": "v1", "strip": true, "list": list }));
    let gateway = serving(definition).start().await;

    let plans = gateway.plans();
    let first = plans.lines().nth(1).expect("a step").trim();
    assert_eq!(
        first,
        "1. version in the first segment below the listen path, `v1` where there is none, taken off: `v1`, \
         `v2` at http://127.0.0.1:9/base until 2999-01-01T00:00:00.000Z"
    );
    assert!(plans.lines().nth(2).is_some_and(|second| second.trim().starts_with("2. pre ")), "{plans}");
}
