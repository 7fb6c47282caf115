//! Faults that were found and mended, each with the request that showed it.

use std::time::Duration;

use serde_json::json;
use stile_tests::{Answer, Gateway, RawUpstream, Upstream, api, plugin};

/// `Connection` was read after the plugins had run, so a caller could name away what they had set.
#[tokio::test]
async fn a_caller_cannot_take_away_what_a_plugin_sets() {
    let upstream = Upstream::start();
    let headers = plugin("headers").config(json!({ "set": { "x-consumer": "guest" } }));
    let gateway = Gateway::with(api("orders").upstream(&upstream).pre(headers)).start().await;

    let mut caller = gateway.raw().await;
    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, x-consumer\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));

    assert_eq!(upstream.last().header("x-consumer"), Some("guest"));
}

/// With `h2c` the upstream would give the caller a connection whose requests no hook sees.
#[tokio::test]
async fn an_upgrade_to_anything_but_websocket_is_taken_off() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let mut caller = gateway.raw().await;
    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));

    let seen = upstream.last();
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (None, None));
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_502() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").upstream_url(&upstream.url())).start().await;

    let mut caller = gateway.raw().await;
    caller.write("GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut sent = upstream.accept().await;
    sent.head().await;
    sent.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;

    assert!(caller.head().await.starts_with("HTTP/1.1 502 "));
}

/// HTTP/2 may split the field; an HTTP/1.1 upstream must get it whole (RFC 9113, section 8.2.3).
#[tokio::test]
async fn cookies_that_came_apart_over_http2_leave_as_one() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let reply = gateway.get("/orders/1").http2().header("cookie", "a=1").header("cookie", "b=2").send().await;

    assert_eq!(reply.status(), 200);
    assert_eq!(upstream.last().header("cookie"), Some("a=1; b=2"));
}

/// The guard on `/items:secret` did not see `/items%3Asecret`, which the upstream reads as the same.
#[tokio::test]
async fn an_escape_does_not_pass_an_endpoint_guard() {
    let upstream = Upstream::start();
    let guard = plugin("virtual-endpoint").config(json!({ "body": { "guarded": true } }));
    let gateway =
        Gateway::with(api("orders").upstream(&upstream).strip().endpoint("GET", "/items:secret", guard)).start().await;

    for path in ["/orders/items:secret", "/orders/items%3Asecret", "/orders/%69tems%3asecret/"] {
        gateway.get(path).send().await;
        assert_eq!(upstream.calls(), 0, "{path}");
    }
}

/// Idle instances held their slots for ever, and another plugin's calls were busy for ever.
#[tokio::test]
async fn idle_instances_leave_room_for_other_plugins() {
    let upstream = Upstream::start();
    let ids = ["one", "two", "three", "four"];
    let mut apis = ids.iter().map(|id| api(id).upstream(&upstream).pre("hello"));
    let first = Gateway::with(apis.next().expect("four APIs"));
    let builder = apis.fold(first, stile_tests::Builder::and).plugin("hello", "isolation", "reuse");
    let gateway = builder.set("/runtime/instances_max", 2).start().await;

    for id in ids {
        for _ in 0..2 {
            assert_eq!(gateway.get(&format!("/{id}/1")).send().await.status(), 200, "{id}");
        }
    }
}

/// The deadline of the whole request was only looked at when the next piece of the body came.
#[tokio::test]
async fn an_upload_that_stalls_ends_with_the_time_of_the_request() {
    let upstream = RawUpstream::start().await;
    let definition = api("orders").upstream_url(&upstream.url()).set("/request_timeout_ms", 300);
    let gateway = Gateway::with(definition).start().await;

    let mut caller = gateway.raw().await;
    caller.write("POST /orders/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc").await;

    // It is the caller who is late (RFC 9110, section 15.5.9).
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_does_not_read_an_upload_is_late_itself() {
    let upstream = RawUpstream::start().await;
    let definition = api("orders").upstream_url(&upstream.url()).set("/request_timeout_ms", 300);
    let gateway = Gateway::with(definition.set("/request_body_bytes_max", 1 << 30)).start().await;

    let mut caller = gateway.raw().await;
    let endless = "POST /orders/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";
    caller.write(endless).await;
    let _sent = upstream.accept().await;
    // More than all buffers on the way take, and then the caller has no more to say before it reads.
    while tokio::time::timeout(Duration::from_millis(100), caller.try_write(vec![b'x'; 1 << 20])).await == Ok(true) {}

    assert!(caller.head().await.starts_with("HTTP/1.1 504 "));
}

/// While the window is shut nobody asks the answer's body for more, so its deadline was never looked at.
#[tokio::test]
async fn a_caller_that_keeps_its_window_shut_holds_a_request_no_longer_than_its_time() {
    let upstream = Upstream::answering(|_| Answer::new(200).body(vec![b'x'; 1 << 20]));
    let gateway = Gateway::with(api("orders").upstream(&upstream).set("/request_timeout_ms", 300)).start().await;

    let reply = gateway.get("/orders/1").shut_window().try_send().await;

    assert!(reply.is_err());
    gateway.metric_becomes("stile_late_answers_total", &[], 1.0).await;
    gateway.metric_becomes("stile_requests_in_flight", &[], 0.0).await;
    gateway.metric_becomes("stile_requests_aborted_total", &[("api", "orders")], 1.0).await;
}

/// The connection closed after an early answer without having said so, and the next request ran into that.
#[tokio::test]
async fn an_answer_before_the_end_of_a_long_upload_says_that_the_connection_closes() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").upstream_url(&upstream.url())).start().await;

    let mut caller = gateway.raw().await;
    caller.write("POST /orders/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc").await;
    let mut sent = upstream.accept().await;
    sent.head().await;
    sent.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;

    let head = caller.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("connection: close\r\n"), "{head}");
}

/// hyper's client sends no body of unknown length with a GET unless it is told so: it was dropped without a word.
#[tokio::test]
async fn a_body_in_chunks_passes_with_get() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).start().await;

    let mut caller = gateway.raw().await;
    let body = "3\r\nabc\r\n0\r\n\r\n";
    caller.write(format!("GET /orders/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));

    assert_eq!(upstream.last().body, "abc");
}

/// The gateway closed as soon as it had answered: a caller that reads only after it wrote lost the answer to a reset.
#[tokio::test]
async fn a_caller_that_writes_a_long_upload_first_gets_an_early_answer_whole() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").upstream_url(&upstream.url())).start().await;
    let answer = "early ".repeat(20_000);

    for round in 0..200 {
        let mut caller = gateway.raw().await;
        let request = long_upload("/orders/1");
        let calling = async {
            assert!(caller.try_write(request).await, "round {round}: the upload breaks off");
            caller.rest().await
        };
        let answering = async {
            let mut sent = upstream.accept().await;
            sent.head().await;
            sent.write(format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())).await;
            sent
        };
        // The upstream never reads the upload, and does not close.
        let (got, _sent) = tokio::join!(calling, answering);
        assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("connection: close\r\n"), "round {round}: {got:.200}");
        assert!(got.ends_with(&answer), "round {round}: {} bytes", got.len());
    }

    gateway.metric_becomes("stile_lingering_closes_total", &[], 200.0).await;
    assert!(gateway.metric("stile_lingering_closes_cut_total", &[]).abs() < f64::EPSILON);
}

/// What the gateway still wrote to such an upstream failed before the answer was read, and the caller got 502.
#[tokio::test]
async fn an_early_answer_of_an_upstream_that_closes_at_once_arrives() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(api("orders").upstream_url(&upstream.url())).start().await;

    for round in 0..200 {
        let mut caller = gateway.raw().await;
        let calling = async {
            assert!(caller.try_write(long_upload("/orders/1")).await, "round {round}: the upload breaks off");
            caller.rest().await
        };
        let answering = async {
            let mut sent = upstream.accept().await;
            sent.head().await;
            sent.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno").await;
        };
        let (got, ()) = tokio::join!(calling, answering);
        assert!(got.starts_with("HTTP/1.1 403 ") && got.ends_with("\r\n\r\nno"), "round {round}: {got}");
    }
}

#[tokio::test]
async fn a_caller_that_writes_a_long_upload_first_gets_refusals_and_plugins_answers() {
    let upstream = Upstream::start();
    let hello = plugin("virtual-endpoint").config(json!({ "body": { "hello": true } }));
    let orders = api("orders").upstream(&upstream).strip().endpoint("PUT", "/1", hello);
    let gateway =
        Gateway::with(orders).and(api("small").upstream(&upstream).set("/request_body_bytes_max", 10)).start().await;

    for round in 0..20 {
        for (path, status) in [("/orders/1", 200), ("/nowhere", 404), ("/small/1", 413), ("/%zz", 400)] {
            let mut caller = gateway.raw().await;
            assert!(caller.try_write(long_upload(path)).await, "{path}, round {round}: the upload breaks off");
            let got = caller.rest().await;
            let is_whole = got.starts_with(&format!("HTTP/1.1 {status} ")) && got.ends_with('}');
            assert!(is_whole && got.contains("connection: close\r\n"), "{path}, round {round}: {got}");
        }
    }

    assert_eq!(upstream.calls(), 0);
}

fn long_upload(path: &str) -> Vec<u8> {
    const BYTES: usize = 5 << 20;
    let mut request = format!("PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n").into_bytes();
    request.resize(request.len() + BYTES, b'x');
    request
}
