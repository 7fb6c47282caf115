//! What passes between caller and upstream, byte for byte where that matters.

use std::io::Write as _;

use serde_json::{Value, json};
use stile_tests::{Answer, Builder, Gateway, RawUpstream, Seen, Upstream, Use, api, plugin};

const GRANTS: [&str; 2] = ["upstream", "session-limits"];

fn reader(write: Value) -> Use {
    plugin("probe").function("everything").config(json!({ "write": write }))
}

fn to(upstream: &RawUpstream) -> Builder {
    Gateway::with(api("orders").upstream_url(&upstream.url()))
}

#[tokio::test]
async fn a_request_streams_to_the_upstream_before_it_ends() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;

    caller.write("POST /orders/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    let mut sent = upstream.accept().await;
    let head = sent.head().await;
    assert!(head.starts_with("POST /orders/1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert_eq!(sent.until("first\r\n").await, "5\r\nfirst\r\n");

    caller.write("6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(sent.until("0\r\n\r\n").await, "6\r\nsecond\r\n0\r\n\r\n");
    sent.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn an_answer_streams_to_the_caller_before_it_ends() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;

    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;
    sent.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    assert!(caller.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(caller.until("first\r\n").await, "5\r\nfirst\r\n");

    sent.write("6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(caller.until("0\r\n\r\n").await, "6\r\nsecond\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;

    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;
    sent.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    caller.until("first\r\n").await;
    drop(sent);

    assert_eq!(caller.rest().await, "", "neither a last chunk nor another answer");
    gateway.metric_becomes("stile_requests_aborted_total", &[("api", "orders")], 1.0).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(|_| Answer::new(200).pieces(["a", "b"], Some(("x-sum", "2"))));
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let call = gateway.call("POST", "/orders/1").header("te", "trailers").header("trailer", "x-sum");
    let reply = call.pieces(["1", "23"], &[("x-sum", "3")]).send().await;

    assert_eq!(&upstream.last().body[..], b"123");
    assert_eq!(upstream.last().trailers.get("x-sum").map(|sum| sum.as_bytes()), Some(&b"3"[..]));
    assert_eq!(reply.text(), "ab");

    assert_eq!(reply.trailer("x-sum"), Some("2"));

    let reply = gateway.get("/orders/1").header("te", "trailers").http2().send().await;
    assert_eq!((reply.text(), reply.trailer("x-sum")), ("ab", Some("2")));
}

#[tokio::test]
async fn http2_callers_are_served_in_cleartext_and_over_tls() {
    let upstream = Upstream::start();
    let tls = stile_tests::SelfSigned::new();
    let clear = Gateway::with(api("orders").upstream(&upstream)).start().await;
    let encrypted = Gateway::with(api("orders").upstream(&upstream)).tls(&tls).start().await;
    for (gateway, scheme) in [(clear, "http"), (encrypted, "https")] {
        for is_http2 in [false, true] {
            let call = gateway.post("/orders/1?a=b", "body").host("shop.example");
            let reply = if is_http2 { call.http2() } else { call }.send().await;

            let version = if is_http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
            assert_eq!((reply.status(), reply.version(), reply.text()), (200, version, "upstream"));
            let sent = upstream.last();
            assert_eq!(
                (sent.method.as_str(), sent.target.as_str(), &sent.body[..]),
                ("POST", "/orders/1?a=b", &b"body"[..])
            );
            assert_eq!(sent.header("x-forwarded-proto"), Some(scheme));
            assert_eq!(sent.header("x-forwarded-host"), Some("shop.example"));
        }
    }
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;

    caller.write("GET /orders/ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    let head = sent.head().await.to_ascii_lowercase();
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    sent.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let head = caller.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");

    caller.write("ping\n").await;
    assert_eq!(sent.until("\n").await, "ping\n");
    sent.write("pong\n").await;
    assert_eq!(caller.until("\n").await, "pong\n");
    caller.end().await;
    assert_eq!(sent.rest().await, "");
}

#[tokio::test]
async fn a_caller_who_waits_for_100_continue_gets_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    let mut caller = gateway.raw().await;

    caller.write("POST /orders/1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    let interim = caller.head().await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    caller.write("body").await;

    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(&upstream.last().body[..], b"body");
}

#[tokio::test]
async fn fields_of_one_connection_stay_on_it() {
    let upstream = Upstream::answering(|_| {
        Answer::new(200)
            .header("connection", "x-of-upstream")
            .header("x-of-upstream", "1")
            .header("keep-alive", "5")
            .body("")
    });
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let call = gateway.get("/orders/1").header("connection", "x-of-caller, keep-alive").header("x-of-caller", "1");
    let reply = call.header("keep-alive", "5").header("proxy-authorization", "a").header("te", "gzip").send().await;

    for field in ["connection", "x-of-caller", "keep-alive", "proxy-authorization", "te"] {
        assert_eq!(upstream.last().header(field), None, "{field}");
    }
    assert_eq!((reply.header("x-of-upstream"), reply.header("keep-alive")), (None, None));
}

#[tokio::test]
async fn a_stranger_cannot_make_up_where_it_comes_from() {
    let upstream = Upstream::start();
    let forge = |gateway: &Gateway| {
        let call = gateway.get("/orders/1").host("shop.example").header("x-forwarded-for", "1.2.3.4");
        call.header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil.example")
            .header("forwarded", "for=1.2.3.4")
    };
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    forge(&gateway).send().await;
    let sent = upstream.last();
    assert_eq!(sent.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(sent.header("x-forwarded-proto"), Some("http"));
    assert_eq!(sent.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(sent.header("forwarded"), None);

    let gateway =
        Gateway::with(api("orders").upstream(&upstream)).set("/trusted_proxies", json!(["127.0.0.1"])).start().await;
    forge(&gateway).send().await;
    let sent = upstream.last();
    assert_eq!(sent.headers("x-forwarded-for"), ["1.2.3.4, 127.0.0.1"]);
    assert_eq!(sent.header("x-forwarded-proto"), Some("https"));
    assert_eq!(sent.header("x-forwarded-host"), Some("evil.example"));
}

/// Four APIs, and the id of the one that answers.
async fn check_route(host: &str, path: &str, expected: Option<(&str, &str)>) {
    let upstreams =
        ["root", "orders", "deep", "shop"].map(|id| (id, Upstream::answering(move |_| Answer::new(200).body(id))));
    let [root, orders, deep, shop] = &upstreams;
    let gateway = Gateway::with(api("root").path("/").upstream(&root.1))
        .and(api("orders").path("/orders/").strip().upstream(&orders.1))
        .and(api("deep").path("/orders/deep/").upstream(&deep.1))
        .and(api("shop").path("/").hosts(["shop.example", "*.shop.example"]).upstream(&shop.1));
    let gateway = gateway.start().await;

    let reply = gateway.get(path).host(host).send().await;

    let Some((id, target)) = expected else {
        assert!([400, 404].contains(&reply.status()), "{host} {path}: {}", reply.status());
        return;
    };
    assert_eq!((reply.status(), reply.text()), (200, id), "{host} {path}");
    let called = upstreams.iter().find(|(of, _)| *of == id).expect("one of the four");
    assert_eq!(called.1.last().target, target, "{host} {path}");
}

#[tokio::test]
async fn the_longest_listen_path_and_the_host_decide() {
    check_route("a", "/", Some(("root", "/"))).await;
    check_route("a", "/orders/1?q", Some(("orders", "/1?q"))).await;
    check_route("a", "/orders/deep/1", Some(("deep", "/orders/deep/1"))).await;
    check_route("a", "/ordersome", Some(("root", "/ordersome"))).await;
    check_route("shop.example", "/x", Some(("shop", "/x"))).await;
    check_route("SHOP.example:81", "/x", Some(("shop", "/x"))).await;
    check_route("eu.shop.example", "/x", Some(("shop", "/x"))).await;
}

#[tokio::test]
async fn a_path_written_in_another_way_is_the_same_path() {
    check_route("a", "/orders/./1", Some(("orders", "/1"))).await;
    check_route("a", "/orders/x/../1", Some(("orders", "/1"))).await;
    check_route("a", "/x/../orders/1", Some(("orders", "/1"))).await;
    check_route("a", "/%6frders/1", Some(("orders", "/1"))).await;
    check_route("a", "/x/%2e%2e/orders/1", Some(("orders", "/1"))).await;
    check_route("a", "/orders/a%20b", Some(("orders", "/a%20b"))).await;
    check_route("a", "/../orders/1", None).await;
}

#[tokio::test]
async fn a_body_over_the_apis_limit_ends_with_413() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream).set("/request_body_bytes_max", 4)).start().await;

    assert_eq!(gateway.post("/orders/1", "four").send().await.status(), 200);
    assert_eq!(gateway.post("/orders/1", "fives").send().await.status(), 413);
    assert_eq!(gateway.call("POST", "/orders/1").pieces(["fiv", "es"], &[]).send().await.status(), 413);
}

#[tokio::test]
async fn a_body_over_a_plugins_limit_ends_with_413_and_an_answer_over_it_with_502() {
    let upstream = Upstream::answering(|seen| Answer::new(200).body(seen.body.clone()));
    let limits = json!({ "body_in_bytes_max": 4 });
    let inward = Gateway::with(api("orders").upstream(&upstream).pre(reader(json!([]))));
    let gateway = inward.grant("probe", GRANTS).limits("probe", limits.clone()).start().await;
    assert_eq!(gateway.post("/orders/1", "four").send().await.text(), "four");
    assert_eq!(gateway.post("/orders/1", "fives").send().await.status(), 413);
    assert_eq!(gateway.call("POST", "/orders/1").pieces(["fiv", "es"], &[]).send().await.status(), 413);

    let outward = Gateway::with(api("orders").upstream(&upstream).response(reader(json!([]))));
    let gateway = outward.grant("probe", GRANTS).limits("probe", limits).start().await;
    assert_eq!(gateway.post("/orders/1", "four").send().await.text(), "four");
    assert_eq!(gateway.post("/orders/1", "fives").send().await.status(), 502);
}

const TEXT: &str = "a text that is long enough to be worth its coding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn encoded(coding: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::default());
            encoder.write_all(TEXT.as_bytes()).expect("memory");
            encoder.finish().expect("memory");
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::default());
            encoder.write_all(TEXT.as_bytes()).expect("memory");
            encoder.finish().expect("memory");
        }
        "br" => brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(TEXT.as_bytes()).expect("memory"),
        "zstd" => out = zstd::encode_all(TEXT.as_bytes(), 3).expect("memory"),
        _ => panic!("no such coding"),
    }
    out
}

fn body_seen(report: Option<&str>, name: &str) -> Option<String> {
    let found = report?.split(';').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

#[tokio::test]
async fn plugins_read_bodies_decoded_and_what_they_leave_passes_as_it_came() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let upstream = Upstream::answering(|seen: &Seen| {
            let coding = seen.header("content-encoding").expect("a coding");
            Answer::new(200).header("content-encoding", coding).body(seen.body.clone())
        });
        let definition = api("orders").upstream(&upstream).pre(reader(json!([]))).response(reader(json!([])));
        let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;

        let reply = gateway.post("/orders/1", encoded(coding)).header("content-encoding", coding).send().await;

        let sent = upstream.last();
        assert_eq!(body_seen(sent.header("x-saw-pre"), "body").as_deref(), Some(TEXT), "{coding}");
        assert_eq!(sent.body, encoded(coding), "{coding}");
        assert_eq!(body_seen(reply.header("x-saw-response"), "response-body").as_deref(), Some(TEXT), "{coding}");
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert_eq!(reply.header("content-length"), Some(encoded(coding).len().to_string().as_str()));
        assert_eq!(*reply.body(), encoded(coding));
    }
}

#[tokio::test]
async fn a_body_that_a_plugin_replaces_has_no_coding_and_the_right_length() {
    let upstream = Upstream::answering(|_| {
        Answer::new(200).header("content-encoding", "gzip").header("content-md5", "x").body(encoded("gzip"))
    });
    let definition = api("orders").upstream(&upstream).pre(reader(json!(["body"]))).response(reader(json!(["body"])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;

    let call = gateway.post("/orders/1", encoded("br")).header("content-encoding", "br").header("content-digest", "x");
    let reply = call.send().await;

    let sent = upstream.last();
    assert_eq!((&sent.body[..], sent.header("content-length")), (&b"written"[..], Some("7")));
    assert_eq!((sent.header("content-encoding"), sent.header("content-digest")), (None, None));
    assert_eq!((reply.text(), reply.header("content-length")), ("written", Some("7")));
    assert_eq!((reply.header("content-encoding"), reply.header("content-md5")), (None, None));
}

#[tokio::test]
async fn a_body_that_decodes_to_more_than_a_plugin_may_read_ends_with_413() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).pre(reader(json!([])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 3).expect("memory");
    assert!(bomb.len() < 65_536);

    let reply = gateway.post("/orders/1", bomb).header("content-encoding", "zstd").send().await;

    assert_eq!((reply.status(), upstream.calls()), (413, 0));
}

#[tokio::test]
async fn a_coding_that_nobody_knows_ends_with_415_only_where_a_plugin_reads() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).pre(reader(json!([])));
    let gateway = Gateway::with(definition).and(api("open").upstream(&upstream)).grant("probe", GRANTS).start().await;

    let call = |path| gateway.post(path, "x").header("content-encoding", "rot13");

    assert_eq!(call("/orders/1").send().await.status(), 415);
    assert_eq!(call("/open/1").send().await.status(), 200);
    let broken = gateway.post("/orders/1", "not gzip").header("content-encoding", "gzip").send().await;
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn answers_to_head_keep_the_length_of_what_they_leave_out() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;

    caller.write("HEAD /orders/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /orders/2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    assert!(sent.head().await.starts_with("HEAD "));
    sent.write("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await;
    let head = caller.head().await;
    assert!(head.contains("content-length: 1234\r\n"), "{head}");

    // The next answer on the connection begins where this one ended.
    assert!(sent.head().await.starts_with("GET /orders/2 "));
    sent.write("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n").await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 304 ") && head.contains("etag: \"a\"\r\n"), "{head}");
    assert!(!head.contains("content-length: 0"), "{head}");
}

#[tokio::test]
async fn answers_to_head_pass_plugins_that_read_bodies() {
    let upstream = Upstream::answering(|_| Answer::new(200).body("upstream"));
    let definition = api("orders").upstream(&upstream).response(reader(json!([])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;

    let reply = gateway.call("HEAD", "/orders/1").send().await;

    assert_eq!((reply.status(), reply.text()), (200, ""));
    // Left out rather than wrong: the plugin may have changed a body that nobody sees.
    assert!([None, Some("8")].contains(&reply.header("content-length")));
}

#[tokio::test]
async fn repeated_and_latin_1_fields_survive_plugins_that_read_all() {
    let upstream = Upstream::answering(|_| Answer::new(200).header("set-cookie", "a=1").header("set-cookie", "b=2"));
    let definition = api("orders").upstream(&upstream).pre(reader(json!([]))).response(reader(json!([])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;

    let reply = gateway
        .get("/orders/1")
        .header("x-latin", [b'a', 0xe9])
        .header("x-twice", "1")
        .header("x-twice", "2")
        .send()
        .await;

    assert_eq!(upstream.last().headers.get("x-latin").map(|value| value.as_bytes()), Some(&[b'a', 0xe9][..]));
    assert_eq!(upstream.last().headers("x-twice"), ["1", "2"]);
    assert_eq!(reply.headers("set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_request_with_two_meanings_is_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    for head in [
        "POST /orders/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nfives",
        "POST /orders/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET /orders/1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /orders/1 HTTP/1.1\r\n\r\n",
    ] {
        let mut caller = gateway.raw().await;
        caller.write(head).await;
        let answer = caller.head().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head} → {answer}");
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn of_two_lengths_the_upstream_hears_one_and_the_connection_ends() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;
    let mut caller = gateway.raw().await;

    let smuggled = "GET /orders/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let head = "POST /orders/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
    caller.write(format!("{head}1\r\na\r\n0\r\n\r\n{smuggled}")).await;

    // RFC 9112, section 6.1: the length is ignored, and the connection is closed after the answer.
    let answer = caller.rest().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(upstream.calls(), 1);
    assert_eq!((&upstream.last().body[..], upstream.last().header("content-length")), (&b"a"[..], None));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_502() {
    let gone = RawUpstream::start().await.url();
    let gateway = Gateway::with(api("orders").upstream_url(&gone)).start().await;

    let reply = gateway.get("/orders/1").send().await;

    assert_eq!(reply.status(), 502);
    assert_eq!(reply.json(), json!({ "error": "There was a problem proxying the request" }));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_504() {
    let upstream = RawUpstream::start().await;
    let definition = api("orders").upstream_url(&upstream.url());
    let slow = definition.clone().set("/upstream/reply_timeout_ms", 50);
    let gateway = Gateway::with(slow).start().await;
    assert_eq!(gateway.get("/orders/1").send().await.status(), 504);

    let gateway = Gateway::with(definition.set("/request_timeout_ms", 50)).start().await;
    assert_eq!(gateway.get("/orders/1").send().await.status(), 504);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_costs_no_request() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    for _ in 0..3 {
        let caller = tokio::spawn(gateway.get("/orders/1").send());
        let mut sent = upstream.accept().await;
        sent.head().await;
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(caller.await.expect("no panic").text(), "ok");
        drop(sent);
    }
}

#[tokio::test]
async fn trailers_survive_plugins_that_read_bodies() {
    let upstream = Upstream::answering(|_| Answer::new(200).pieces(["a", "b"], Some(("x-sum", "2"))));
    let definition = api("orders").upstream(&upstream).pre(reader(json!([]))).response(reader(json!([])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;

    let call = gateway.call("POST", "/orders/1").header("te", "trailers").header("trailer", "x-sum");
    let reply = call.pieces(["1", "23"], &[("x-sum", "3")]).send().await;

    assert_eq!(&upstream.last().body[..], b"123");
    assert_eq!(upstream.last().trailers.get("x-sum").map(|sum| sum.as_bytes()), Some(&b"3"[..]));
    assert_eq!((reply.text(), reply.trailer("x-sum")), ("ab", Some("2")));
}

#[tokio::test]
async fn a_caller_who_leaves_is_counted_and_its_request_ends() {
    let upstream = RawUpstream::start().await;
    let gateway = to(&upstream).start().await;
    let mut caller = gateway.raw().await;
    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;

    drop(caller);

    assert_eq!(sent.rest().await, "", "the upstream's connection is closed");
    gateway.metric_becomes("stile_requests_aborted_total", &[("api", "orders")], 1.0).await;
    gateway.metric_becomes("stile_requests_in_flight", &[("api", "orders")], 0.0).await;
}

#[tokio::test]
async fn an_upgraded_connection_passes_response_plugins_that_read_bodies() {
    let upstream = RawUpstream::start().await;
    let definition = api("orders").upstream_url(&upstream.url()).response(reader(json!(["body", "status"])));
    let gateway = Gateway::with(definition).grant("probe", GRANTS).start().await;
    let mut caller = gateway.raw().await;

    caller.write("GET /orders/ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;
    sent.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("x-saw-response: "), "{head}");
    sent.write("pong\n").await;
    assert_eq!(caller.until("\n").await, "pong\n");
}
