//! The order in which plugins meet a request, and what ends their row.

use serde_json::json;
use stile_tests::{Api, Gateway, Upstream, Use, api, plugin};

fn trace(tag: &str) -> Use {
    plugin("trace").function("trace").config(json!({ "tag": tag }))
}

fn answering(how: &str) -> Use {
    plugin("probe").function("everything").config(json!({ "answer": how }))
}

/// Each hook with so many uses as its doc says, all of `trace`.
fn traced() -> Api {
    api("orders")
        .strip()
        .pre(trace("pre1"))
        .pre(trace("pre2"))
        .pre(trace("pre3"))
        .auth(trace("auth"))
        .post_auth(trace("pa1"))
        .post_auth(trace("pa2"))
        .post_auth(trace("pa3"))
        .post_auth(trace("pa4"))
        .post_auth(trace("pa5"))
        .endpoint("GET", "/users/{id}", trace("end1"))
        .endpoint("POST", "/users/{id}", trace("not-its-method"))
        .endpoint("GET", "/teams/{id}", trace("not-its-path"))
        .endpoint("GET", "/users/{user}", trace("end2"))
        .post(trace("post1"))
        .post(trace("post2"))
        .response(trace("res1"))
        .response(trace("res2"))
        .analytics(trace("an1"))
        .analytics(trace("an2"))
}

const ON_THE_WAY_IN: &str = "pre1,pre2,pre3,auth,pa1,pa2,pa3,pa4,pa5,end1,end2,post1,post2";

#[tokio::test]
async fn every_plugin_runs_in_its_order_and_sees_what_the_earlier_ones_did() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(traced().recorded().upstream(&upstream)).recording().start().await;

    let reply = gateway.get("/orders/users/a%20b").header("authorization", "key-1").send().await;

    assert_eq!(reply.status(), 200);
    let sent = upstream.last();
    assert_eq!(sent.header("x-trace"), Some(ON_THE_WAY_IN));
    assert_eq!(sent.header("x-trace-alias"), Some("auth"));
    assert_eq!(sent.header("x-trace-params"), Some("user=a b"));
    assert_eq!(reply.header("x-trace"), Some("res1,res2"));
    assert_eq!(reply.header("x-trace-request"), Some(ON_THE_WAY_IN));
    assert_eq!(reply.header("x-trace-vars"), Some(format!("{ON_THE_WAY_IN},res1,res2").as_str()));
    let records = gateway.records(1).await;
    assert_eq!(records[0]["tags"], json!(["an1", "an2"]));
    assert_eq!(records[0]["alias"], "auth");
    assert_eq!(records[0]["path"], "/users/{id}");
}

#[tokio::test]
async fn each_request_begins_anew_on_fresh_instances_and_on_kept_ones() {
    let upstream = Upstream::start();
    for isolation in ["request", "reuse"] {
        let builder = Gateway::with(traced().upstream(&upstream)).plugin("trace", "isolation", isolation);
        let gateway = builder.start().await;

        for _ in 0..3 {
            let reply = gateway.get("/orders/users/1").header("authorization", "key-1").send().await;
            assert_eq!(reply.header("x-trace-request"), Some(ON_THE_WAY_IN), "{isolation}");
        }
    }
}

/// `answer` in place of `hook`; what ran before it is `seen`.
async fn check_answer(hook: &str, answer: &str, status: u16, seen: &str) {
    let upstream = Upstream::start();
    let all = ["pre", "auth", "post_auth", "endpoint", "post"];
    let definition = all.into_iter().fold(api("orders").upstream(&upstream), |api, at| {
        let api = if at == "auth" && hook == "auth" { api } else { api.hook(at, trace(at)) };
        if at == hook { api.hook(at, answering(answer)) } else { api }
    });
    let definition = definition.response(trace("res").of_upstream()).response(trace("all"));
    let gateway = Gateway::with(definition).grant("probe", ["upstream", "session-limits"]).start().await;

    let reply = gateway.get("/orders/1").header("authorization", "key").send().await;

    assert_eq!(reply.status(), status, "{hook} {answer}");
    assert_eq!(upstream.calls(), 0, "{hook} {answer}");
    assert_eq!(reply.header("x-trace-request"), Some(seen), "{hook} {answer}");
    // Of the response hooks, the one for answers of the upstream alone did not run.
    assert_eq!(reply.header("x-trace"), Some("all"), "{hook} {answer}");
    match answer {
        "respond" => {
            assert_eq!(reply.text(), "answered");
            assert_eq!(reply.header("x-probe"), Some("answered"));
        }
        "reject" => {
            assert_eq!(reply.json(), json!({ "error": "rejected" }));
            assert_eq!(reply.header("x-probe"), Some("rejected"));
        }
        _ => {}
    }
    if answer != "refuse" {
        let how = [("how", answer), ("hook", hook), ("plugin", "probe")];
        assert!((gateway.metric("stile_plugin_replies_total", &how) - 1.0).abs() < f64::EPSILON, "{}", gateway.page());
    }
}

#[tokio::test]
async fn an_answer_ends_the_way_in_and_meets_the_response_hooks() {
    check_answer("pre", "respond", 218, "pre").await;
    check_answer("auth", "respond", 218, "pre").await;
    check_answer("post_auth", "respond", 218, "pre,auth,post_auth").await;
    check_answer("endpoint", "respond", 218, "pre,auth,post_auth,endpoint").await;
    check_answer("post", "respond", 218, "pre,auth,post_auth,endpoint,post").await;
}

#[tokio::test]
async fn a_rejection_ends_the_way_in_and_meets_the_response_hooks() {
    check_answer("pre", "reject", 418, "pre").await;
    check_answer("auth", "reject", 418, "pre").await;
    check_answer("auth", "refuse", 403, "pre").await;
    check_answer("post_auth", "reject", 418, "pre,auth,post_auth").await;
    check_answer("endpoint", "reject", 418, "pre,auth,post_auth,endpoint").await;
    check_answer("post", "reject", 418, "pre,auth,post_auth,endpoint,post").await;
}

#[tokio::test]
async fn a_rejection_is_xml_for_callers_that_speak_it() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).pre(answering("reject"));
    let gateway = Gateway::with(definition).grant("probe", ["upstream", "session-limits"]).start().await;

    let reply = gateway.post("/orders/1", "<a/>").header("content-type", "text/xml").send().await;

    assert_eq!(reply.status(), 418);
    assert_eq!(reply.header("content-type"), Some("application/xml"));
    assert_eq!(reply.text(), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>rejected</error>");
}

#[tokio::test]
async fn an_endpoint_plugin_matches_the_method_and_path_that_earlier_plugins_made() {
    let upstream = Upstream::start();
    let write = json!({ "write": ["path", "method"] });
    let definition = api("orders")
        .upstream(&upstream)
        .strip()
        .pre(plugin("probe").function("nothing").config(write))
        .endpoint("GET", "/users/{id}", trace("as-it-came"))
        .endpoint("PUT", "/written", trace("as-it-is"));
    let gateway = Gateway::with(definition).grant("probe", ["upstream", "session-limits"]).start().await;

    gateway.get("/orders/users/1").send().await;

    assert_eq!(upstream.last().header("x-trace"), Some("as-it-is"));
    assert_eq!(upstream.last().method, "PUT");
    assert_eq!(upstream.last().target, "/written");
}
