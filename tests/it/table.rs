//! What each hook sees, and what it can change: the table of the hooks, row by row.

use serde_json::{Value, json};
use stile_tests::{Api, Builder, Gateway, Reply, Seen, Upstream, Use, api, plugin};

const GRANTS: [&str; 2] = ["upstream", "session-limits"];

fn probe(function: &str, write: Value) -> Use {
    plugin("probe").function(function).config(json!({ "write": write }))
}

/// An API with `used` at `hook`, and where sessions matter a plugin that makes one.
fn probed(upstream: &Upstream, hook: &str, used: Use) -> Builder {
    let definition = api("orders").upstream(upstream).strip().detailed();
    let definition = if hook == "auth" { definition } else { definition.auth(session()) };
    let definition = definition.hook(hook, used).set("/auth/credential", json!({ "header": "x-key" }));
    Gateway::with(definition).grant("probe", GRANTS).recording()
}

/// Makes a session with the alias `auth`.
fn session() -> Use {
    probe("nothing", json!([]))
}

/// One request with something in every part of it.
async fn ask(gateway: &Gateway) -> Reply {
    let call = gateway.post("/orders/a?b=c", "sent").header("x-probe", "sent").header("x-key", "key-1");
    call.host("shop.example").send().await
}

/// What a plugin reported, as pairs.
fn saw(report: Option<&str>) -> Vec<(String, String)> {
    let pairs = report.expect("a report").split(';').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const MESSAGE: [(&str, &str); 3] = [("method", "POST"), ("path", "/a"), ("query", "b=c")];
const ASKED_FOR: [(&str, &str); 2] = [("header", "sent"), ("body", "sent")];
const CONTEXT: [(&str, &str); 2] = [("api", "orders"), ("host", "shop.example")];
const SESSION: [(&str, &str); 2] = [("alias", "auth"), ("tags", "made")];
const CREDENTIAL: [(&str, &str); 1] = [("credential", "key-1")];

/// The report of a request hook's function.
async fn check_saw(hook: &str, function: &str, expected: &[&[(&str, &str)]]) {
    let upstream = Upstream::start();
    let gateway = probed(&upstream, hook, probe(function, json!([]))).start().await;

    ask(&gateway).await;

    let report = format!("x-saw-{}", hook.replace('_', "-"));
    assert_eq!(saw(upstream.last().header(&report)), pairs(&expected.concat()), "{hook} {function}");
}

#[tokio::test]
async fn request_hooks_see_what_they_ask_for_and_have() {
    check_saw("pre", "everything", &[&MESSAGE, &ASKED_FOR, &CONTEXT]).await;
    check_saw("auth", "everything", &[&MESSAGE, &ASKED_FOR, &CONTEXT, &CREDENTIAL]).await;
    for hook in ["post_auth", "endpoint", "post"] {
        check_saw(hook, "everything", &[&MESSAGE, &ASKED_FOR, &CONTEXT, &SESSION]).await;
    }
}

#[tokio::test]
async fn what_a_function_does_not_ask_for_does_not_reach_it() {
    check_saw("auth", "nothing", &[&MESSAGE, &CREDENTIAL]).await;
    for hook in ["pre", "post_auth", "endpoint", "post"] {
        check_saw(hook, "nothing", &[&MESSAGE]).await;
    }
}

#[tokio::test]
async fn response_hooks_see_the_answer_beside_the_request_without_its_body() {
    let upstream = Upstream::answering(|_| stile_tests::Answer::new(201).header("x-probe", "up").body("up"));
    let gateway = probed(&upstream, "response", probe("everything", json!([]))).start().await;
    let reply = ask(&gateway).await;
    let of_response =
        [("status", "201"), ("origin", "Origin::Upstream"), ("response-header", "up"), ("response-body", "up")];
    let of_request: &[_] = &[("header", "sent")];
    let expected = [&of_response, &MESSAGE[..], of_request, &CONTEXT, &SESSION].concat();
    assert_eq!(saw(reply.header("x-saw-response")), pairs(&expected));

    let gateway = probed(&upstream, "response", probe("nothing", json!([]))).start().await;
    let reply = ask(&gateway).await;
    let expected = [&of_response[..2], &MESSAGE].concat();
    assert_eq!(saw(reply.header("x-saw-response")), pairs(&expected));
}

#[tokio::test]
async fn analytics_hooks_see_the_recorded_messages_they_ask_for() {
    let upstream = Upstream::answering(|_| stile_tests::Answer::new(200).header("x-probe", "up").body("up"));
    let everything =
        [("header", "sent"), ("response-header", "up"), ("body", "sent"), ("response-body", "up"), ("path", "/a")];
    for (function, expected) in [("everything", &everything[..]), ("nothing", &everything[4..])] {
        let gateway = probed(&upstream, "analytics", probe(function, json!([]))).start().await;
        ask(&gateway).await;
        let records = gateway.records(1).await;
        let tags = records[0]["tags"].as_array().expect("tags");
        assert_eq!(tags[0], "made");
        assert_eq!(saw(tags[1].as_str()), pairs(expected), "{function}");
    }
}

/// What reaches the upstream after `hook` wrote `what`.
async fn written(hook: &str, what: &str) -> Seen {
    let upstream = Upstream::start();
    let gateway = probed(&upstream, hook, probe("nothing", json!([what]))).start().await;
    let reply = ask(&gateway).await;
    assert_eq!(reply.status(), 200, "{hook} {what}: {}", reply.text());
    upstream.last()
}

#[tokio::test]
async fn request_hooks_change_every_part_of_the_request() {
    for hook in ["pre", "auth", "post_auth", "endpoint", "post"] {
        assert_eq!(written(hook, "header").await.headers("x-probe"), ["written"], "{hook}");
        assert_eq!(written(hook, "append").await.headers("x-probe"), ["sent", "appended"], "{hook}");
        assert_eq!(written(hook, "remove").await.header("x-probe"), None, "{hook}");
        let body = written(hook, "body").await;
        assert_eq!((&body.body[..], body.header("content-length")), (&b"written"[..], Some("7")), "{hook}");
        assert_eq!(written(hook, "query").await.target, "/a?written=1", "{hook}");
        let param = written(hook, "param").await.target;
        assert!(["/a?b=c&written=a+b%26c", "/a?b=c&written=a%20b%26c"].contains(&param.as_str()), "{hook} {param}");
        assert_eq!(written(hook, "method").await.method, "PUT", "{hook}");
        assert_eq!(written(hook, "path").await.target, "/written?b=c", "{hook}");
    }
}

#[tokio::test]
async fn a_request_hook_with_the_grant_sends_the_request_elsewhere() {
    for hook in ["pre", "auth", "post_auth", "endpoint", "post"] {
        let (upstream, other) = (Upstream::start(), Upstream::start());
        let config = json!({ "write": ["upstream"], "origin": other.url() });
        let gateway = probed(&upstream, hook, plugin("probe").function("nothing").config(config)).start().await;

        assert_eq!(ask(&gateway).await.status(), 200, "{hook}");

        assert_eq!((upstream.calls(), other.calls()), (0, 1), "{hook}");
        assert_eq!(other.last().header("host"), Some(other.url().trim_start_matches("http://")), "{hook}");
    }
}

/// The session as a later plugin sees it after `hook` wrote `what`.
async fn session_after(hook: &str, what: &str) -> Vec<(String, String)> {
    let upstream = Upstream::start();
    let write = probe("nothing", json!([what]));
    let definition = api("orders").upstream(&upstream).strip().auth(session()).hook(hook, write);
    let definition = definition.response(probe("everything", json!([])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;
    let reply = ask(&gateway).await;
    assert_eq!(reply.status(), 200, "{hook} {what}");
    let seen = saw(reply.header("x-saw-response"));
    seen.into_iter().filter(|(name, _)| ["alias", "tags", "metadata"].contains(&name.as_str())).collect()
}

#[tokio::test]
async fn hooks_after_authentication_change_the_session_and_those_before_cannot() {
    for hook in ["post_auth", "endpoint", "post"] {
        assert_eq!(session_after(hook, "alias").await, pairs(&[("alias", "written"), ("tags", "made")]), "{hook}");
        assert_eq!(session_after(hook, "tag").await, pairs(&[("alias", "auth"), ("tags", "made+written")]), "{hook}");
        let with_metadata = [&SESSION[..], &[("metadata", "1")]].concat();
        assert_eq!(session_after(hook, "metadata").await, pairs(&with_metadata), "{hook}");
    }
    for what in ["alias", "tag", "metadata"] {
        assert_eq!(session_after("pre", what).await, pairs(&SESSION), "{what}");
    }
}

#[tokio::test]
async fn a_session_switched_off_after_authentication_is_not_let_through() {
    let upstream = Upstream::start();
    let gateway = probed(&upstream, "post_auth", probe("nothing", json!(["inactive"]))).start().await;

    assert_eq!(ask(&gateway).await.status(), 403);
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn vars_reach_the_later_plugins_of_the_same_request() {
    let upstream = Upstream::start();
    let definition: Api = ["pre", "post_auth", "endpoint", "post"].into_iter().fold(
        api("orders").upstream(&upstream).auth(session()).pre(probe("nothing", json!(["var"]))),
        |api, hook| {
            if hook == "pre" { api } else { api.hook(hook, probe("everything", json!([]))) }
        },
    );
    let gateway =
        Gateway::with(definition.response(probe("everything", json!([])))).grant("probe", GRANTS).start().await;

    let reply = ask(&gateway).await;

    let has_var = |report: Option<&str>, name: &str| saw(report).contains(&(name.to_owned(), "written".to_owned()));
    for report in ["x-saw-post-auth", "x-saw-endpoint", "x-saw-post"] {
        assert!(has_var(upstream.last().header(report), "var"), "{report}");
    }
    assert!(has_var(reply.header("x-saw-response"), "response-var"));
}

#[tokio::test]
async fn response_hooks_change_status_headers_and_body() {
    let upstream = Upstream::answering(|_| stile_tests::Answer::new(200).header("x-probe", "up").body("up"));
    let write = async |what: &str| {
        let gateway = probed(&upstream, "response", probe("nothing", json!([what]))).start().await;
        ask(&gateway).await
    };
    assert_eq!(write("status").await.status(), 299);
    assert_eq!(write("header").await.headers("x-probe"), ["written"]);
    assert_eq!(write("append").await.headers("x-probe"), ["up", "appended"]);
    assert_eq!(write("remove").await.header("x-probe"), None);
    let reply = write("body").await;
    assert_eq!((reply.text(), reply.header("content-length")), ("written", Some("7")));
}

#[tokio::test]
async fn analytics_hooks_change_and_drop_records() {
    let upstream = Upstream::answering(|_| stile_tests::Answer::new(200).header("x-probe", "up").body("up"));
    let write = json!(["header", "body", "query", "path", "tag", "alias"]);
    let gateway = probed(&upstream, "analytics", probe("nothing", write)).start().await;
    assert_eq!(ask(&gateway).await.text(), "up");
    let record = &gateway.records(1).await[0];
    for (field, expected) in [("path", "/written"), ("query", "written"), ("alias", "written")] {
        assert_eq!(record[field], expected);
    }
    for message in ["request", "response"] {
        assert_eq!(record[message]["body"], "written");
        let headers = record[message]["headers"].as_array().expect("headers");
        assert!(headers.contains(&json!(["x-probe", "written"])), "{headers:?}");
        assert!(!headers.iter().any(|header| header[0] == "x-probe" && header[1] != "written"), "{headers:?}");
    }

    let drop = plugin("probe").function("nothing").config(json!({ "answer": "drop" }));
    let gateway = probed(&upstream, "analytics", drop).start().await;
    ask(&gateway).await;
    let labels = [("api", "orders"), ("reason", "plugin")];
    gateway.metric_becomes("stile_analytics_records_dropped_total", &labels, 1.0).await;
}
