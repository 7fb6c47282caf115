//! HTTP/2 with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::harness::*;
use crate::model::gateway::ServerLimits;

type Caller = SendRequest<Empty<Bytes>>;

async fn connect(server: &Running) -> (Caller, JoinHandle<hyper::Result<()>>) {
    let tcp = TcpStream::connect(server.address).await.expect("the server listens");
    let (caller, connection) = Builder::new(Local).handshake(TokioIo::new(tcp)).await.expect("HTTP/2");
    (caller, tokio::task::spawn_local(connection))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://x.test{path}")).body(Empty::new()).expect("a request")
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text")
}

#[test]
fn cleartext_http2_is_told_by_its_preface() {
    let server = start(&limits());
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        let answers = [caller.send_request(get("/host")), caller.send_request(get("/host"))];
        for answer in answers {
            assert_eq!(text(answer.await.expect("an answer")).await, "x.test");
        }
    });
    assert_eq!(server.totals().requests_http2, 2);
}

#[test]
fn a_host_that_differs_from_the_authority_is_refused() {
    let server = start(&limits());
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        let mut request = get("/hosts");
        request.headers_mut().insert("host", "y.test".parse().expect("a value"));
        assert_eq!(caller.send_request(request).await.expect("an answer").status(), StatusCode::BAD_REQUEST);
        let mut request = get("/hosts");
        request.headers_mut().insert("host", "X.test".parse().expect("a value"));
        assert_eq!(text(caller.send_request(request).await.expect("an answer")).await, "0");
    });
}

#[test]
fn large_heads_end_with_431() {
    let server = start(&ServerLimits { header_bytes_max: 8 << 10, header_count_max: 20, ..limits() });
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        let mut long = get("/");
        long.headers_mut().insert("a", "x".repeat(9 << 10).parse().expect("a value"));
        let mut many = get("/");
        for _ in 0..21 {
            many.headers_mut().append("a", "b".parse().expect("a value"));
        }
        for request in [long, many] {
            match caller.send_request(request).await {
                Ok(answer) => assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(text(caller.send_request(get("/a")).await.expect("an answer")).await, "GET /a");
    });
}

#[test]
fn a_panic_ends_its_own_stream_with_500() {
    let server = start(&limits());
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        let answer = caller.send_request(get("/panic")).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(text(caller.send_request(get("/a")).await.expect("an answer")).await, "GET /a");
    });
    assert_eq!(server.totals().panics, 1);
}

#[test]
fn the_handler_is_dropped_when_its_stream_is_reset() {
    let server = start(&limits());
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        let answer = tokio::task::spawn_local(caller.send_request(get("/wait")));
        while server.totals().requests_http2 == 0 {
            tokio::task::yield_now().await;
        }
        answer.abort();
        let _ = answer.await;
        // The reset leaves with the next turn of the connection.
        assert_eq!(text(caller.send_request(get("/a")).await.expect("an answer")).await, "GET /a");
    });
    assert_eq!((server.next_event(), server.next_event()), (Event::Waiting, Event::Dropped));
}

// limit: limits.http2_streams_max counts: streams_full
#[test]
fn a_connection_has_so_many_streams() {
    let server = start(&ServerLimits { http2_streams_max: 2, ..limits() });
    runtime().block_on(async {
        let (mut caller, _connection) = connect(&server).await;
        for _ in 0..3 {
            caller.send_request(get("/a")).await.expect("an answer").into_body().collect().await.expect("a body");
        }
        assert_eq!(server.totals().streams_full, 0, "one after the other");
        let before = server.totals().requests_http2;

        let tcp = TcpStream::connect(server.address).await.expect("the server listens");
        let mut hasty = h2::client::Builder::new();
        // Before it has heard how many are allowed.
        hasty.initial_max_send_streams(10);
        let (caller, connection) = hasty.handshake::<_, Bytes>(tcp).await.expect("HTTP/2");
        let mut caller = caller.ready().await.expect("an open connection");
        let mut wait = || {
            let request = Request::get("http://x.test/wait").body(()).expect("a request");
            caller.send_request(request, true).expect("a stream").0
        };
        let (first, second, third) = (wait(), wait(), wait());
        tokio::task::spawn_local(connection);

        let refused = third.await.expect_err("one too many");
        assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
        while server.totals().requests_http2 < before + 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.totals().streams_full, 1);
        server.release.notify_one();
        server.release.notify_one();
        for answer in [first, second] {
            assert_eq!(answer.await.expect("an answer").status(), StatusCode::OK);
        }
        assert_eq!(server.totals().requests_http2, before + 2, "the third is not served");
    });
}

// limit: limits.http2_connection_age_max_ms counts: aged
#[test]
fn an_idle_connection_gets_goaway() {
    let server = start(&ServerLimits { idle_timeout: Duration::from_millis(50), ..limits() });
    runtime().block_on(async {
        let (mut caller, connection) = connect(&server).await;
        caller.send_request(get("/a")).await.expect("an answer");
        connection.await.expect("no panic").expect("a clean end");
    });
    server.stop_and(|totals| assert_eq!((totals.idle_timeouts, totals.aged), (1, 0)));
}

// limit: limits.http2_connection_age_max_ms counts: aged
#[test]
fn an_old_connection_gets_goaway_and_its_request_an_answer() {
    let server = start(&ServerLimits { http2_connection_age_max: Duration::from_millis(50), ..limits() });
    runtime().block_on(async {
        let (mut caller, connection) = connect(&server).await;
        let answer = caller.send_request(get("/wait"));
        let release = async {
            while server.totals().aged == 0 {
                tokio::task::yield_now().await;
            }
            server.release.notify_one();
        };
        let (answer, ()) = tokio::join!(answer, release);
        assert_eq!(text(answer.expect("an answer")).await, "waited");
        connection.await.expect("no panic").expect("a clean end");
    });
    assert_eq!(server.totals().aged, 1);
}

#[test]
fn a_drain_lets_streams_in_flight_finish() {
    let server = start(&limits());
    runtime().block_on(async {
        let (mut caller, connection) = connect(&server).await;
        let answer = caller.send_request(get("/wait"));
        let release = async {
            while server.totals().requests_http2 == 0 {
                tokio::task::yield_now().await;
            }
            server.begin_drain();
            server.release.notify_one();
        };
        let (answer, ()) = tokio::join!(answer, release);
        assert_eq!(text(answer.expect("an answer")).await, "waited");
        connection.await.expect("no panic").expect("a clean end");
    });
    assert_eq!(server.stop(), 0);
}

// limit: server::worker::RESETS_PENDING_MAX counts: protocol_errors
#[test]
fn a_connection_that_resets_all_it_opens_is_ended() {
    let server = start(&limits());
    runtime().block_on(async {
        let tcp = TcpStream::connect(server.address).await.expect("the server listens");
        let (mut caller, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        for _ in 0..10_000 {
            let request = Request::get("http://x.test/wait").body(()).expect("a request");
            let Ok(mut ready) = caller.clone().ready().await else { break };
            let Ok((_, mut stream)) = ready.send_request(request, true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            caller = ready;
        }
        connection.await.expect("no panic").expect_err("the server ends it");
    });
    wait_for(|| server.totals().protocol_errors == 1);
}

#[test]
fn a_caller_that_does_not_answer_goaway_is_closed() {
    use std::io::Write;
    let server = start(&limits());
    let mut stream = server.connect();
    // Preface and empty settings, and then silence.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("open");
    let mut settings = [0; 9];
    std::io::Read::read_exact(&mut stream, &mut settings).expect("settings");

    server.begin_drain();

    until_close(&mut stream);
    assert_eq!(server.stop(), 0);
}

#[test]
fn an_answer_that_the_caller_takes_nothing_of_is_given_up() {
    let server = start(&ServerLimits { idle_timeout: Duration::from_millis(100), ..limits() });
    runtime().block_on(async {
        let tcp = TcpStream::connect(server.address).await.expect("the server listens");
        let mut shut = h2::client::Builder::new();
        shut.initial_window_size(0);
        let (caller, connection) = shut.handshake::<_, Bytes>(tcp).await.expect("HTTP/2");
        tokio::task::spawn_local(connection);
        let mut caller = caller.ready().await.expect("an open connection");
        for path in ["/a", "/large"] {
            let request = Request::get(format!("http://x.test{path}")).body(()).expect("a request");
            let (answer, _) = caller.send_request(request, true).expect("a stream");
            let answer = answer.await.expect("a head");
            let reset = answer.into_body().data().await.expect("an end").expect_err("a reset");
            assert_eq!(reset.reason(), Some(h2::Reason::CANCEL));
            caller = caller.ready().await.expect("an open connection");
        }
    });
    assert_eq!(server.totals().late_answers, 2);
}
