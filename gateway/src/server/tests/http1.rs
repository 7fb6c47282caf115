//! HTTP/1.1: keep-alive, limits, timeouts, panics, upgrades.

use std::io::{Read, Write};
use std::time::Duration;

use super::harness::*;
use crate::model::gateway::ServerLimits;

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = start(&limits());
    let mut stream = server.connect();

    for _ in 0..3 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
        assert!(until(&mut stream, "GET /a").starts_with("HTTP/1.1 200 OK"));
    }

    assert_eq!((server.totals().accepted, server.totals().requests_http1), (1, 3));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&limits());
    let mut stream = server.connect();

    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all([request("/a"), request("/b"), request("/c")].concat().as_bytes()).expect("open");

    let answers = until(&mut stream, "GET /c");
    assert_eq!(statuses(&answers), [200, 200, 200]);
    assert!(answers.find("GET /a") < answers.find("GET /b"));
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.set_nodelay(true).expect("a socket");

    for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" {
        stream.write_all(&[*byte]).expect("open");
    }

    until(&mut stream, "hello");
}

#[test]
fn a_method_that_begins_like_the_preface_of_http2_is_http1() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.write_all(b"PR").expect("open");
    stream.write_all(b"INT /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut stream, "PRINT /a");
}

#[test]
fn the_handler_learns_both_ends_of_the_connection() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut stream, &format!("\"127.0.0.1\" {} false", server.address.port()));
}

#[test]
fn a_head_that_is_too_long_ends_with_431() {
    let server = start(&ServerLimits { header_bytes_max: 8 << 10, ..limits() });
    let long = "x".repeat(9 << 10);

    let answer = server.send_until_close(format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n").as_bytes());

    assert_eq!(statuses(&answer), [431]);
    server.stop_and(|totals| assert_eq!(totals.heads_too_large, 1));
}

// limit: limits.header_count_max counts: heads_too_large
#[test]
fn too_many_header_fields_end_with_431() {
    for header_count_max in [10, 100, 150] {
        let server = start(&ServerLimits { header_count_max, ..limits() });
        let request = |count: usize| {
            let fields = "A: b\r\n".repeat(count - 2);
            format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n")
        };

        assert_eq!(statuses(&server.send_until_close(request(header_count_max).as_bytes())), [200]);
        assert_eq!(server.totals().heads_too_large, 0);
        assert_eq!(statuses(&server.send_until_close(request(header_count_max + 1).as_bytes())), [431]);
        server.stop_and(|totals| assert_eq!(totals.heads_too_large, 1));
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let server = start(&ServerLimits { header_timeout: Duration::from_millis(50), ..limits() });
    assert_eq!(server.send_until_close(b""), "");
    assert_eq!(server.totals().header_timeouts, 1);
}

#[test]
fn a_head_that_does_not_end_is_closed() {
    let server = start(&ServerLimits { header_timeout: Duration::from_millis(50), ..limits() });
    assert_eq!(server.send_until_close(b"GET / HTTP/1.1\r\nHost: x\r\nA: "), "");
    server.stop_and(|totals| assert_eq!(totals.header_timeouts, 1));
}

// limit: limits.header_timeout_ms counts: header_timeouts
#[test]
fn a_head_that_comes_in_pieces_has_so_much_time() {
    // Time is the system's, so the limit is either far longer than the pause between the pieces or without an end of it.
    let server = start(&ServerLimits { header_timeout: PATIENCE, ..limits() });
    let mut stream = server.connect();
    stream.write_all(b"GET /a HT").expect("open");
    server.send_until_close(b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("open");
    assert!(until_close(&mut stream).ends_with("GET /a"));
    server.stop_and(|totals| assert_eq!(totals.header_timeouts, 0));

    let server = start(&ServerLimits { header_timeout: Duration::from_millis(50), ..limits() });
    assert_eq!(server.send_until_close(b"GET /a HT"), "");
    server.stop_and(|totals| assert_eq!(totals.header_timeouts, 1));
}

#[test]
fn a_second_head_that_does_not_end_is_closed_sooner_than_an_idle_connection() {
    let server = start(&ServerLimits { header_timeout: Duration::from_millis(50), ..limits() });
    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut stream, "GET /a");

    stream.write_all(b"GET /b HT").expect("open");

    assert_eq!(until_close(&mut stream), "");
    server.stop_and(|totals| assert_eq!((totals.header_timeouts, totals.idle_timeouts), (1, 0)));
}

// limit: limits.idle_timeout_ms counts: idle_timeouts
#[test]
fn an_idle_connection_is_closed() {
    // While another connection is served from its beginning to its end, which is far less than the limit.
    let server = start(&limits());
    let mut stream = server.connect();
    for path in ["/a", "/b"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("open");
        until(&mut stream, &format!("GET {path}"));
        server.send_until_close(b"GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    }
    assert_eq!(server.totals().idle_timeouts, 0);

    let server = start(&ServerLimits { idle_timeout: Duration::from_millis(50), ..limits() });
    let answer = server.send_until_close(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(statuses(&answer), [200]);
    server.stop_and(|totals| assert_eq!((totals.header_timeouts, totals.idle_timeouts), (0, 1)));
}

#[test]
fn neither_timeout_ends_a_request_in_work() {
    let short = Duration::from_millis(50);
    let server = start(&ServerLimits { idle_timeout: short, header_timeout: short, ..limits() });
    let mut stream = server.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    assert_eq!(server.next_event(), Event::Waiting);

    // A connection that opens later and is closed for idleness shows that the time is over.
    server.send_until_close(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    server.send_until_close(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    server.release.notify_one();

    until(&mut stream, "waited");
}

#[test]
fn a_caller_that_does_not_read_is_closed() {
    let server = start(&ServerLimits { idle_timeout: Duration::from_millis(50), ..limits() });
    let mut stream = server.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");

    wait_for(|| server.totals().write_timeouts == 1);

    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    assert!(read.len() < 64 << 20);
}

#[test]
fn a_panic_becomes_a_500_and_the_connection_stays() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    assert!(until(&mut stream, "internal error\n").starts_with("HTTP/1.1 500 "));
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut stream, "GET /a");
    assert_eq!(server.totals().panics, 1);
}

#[test]
fn the_handler_is_dropped_when_the_caller_goes_away() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    assert_eq!(server.next_event(), Event::Waiting);
    drop(stream);
    assert_eq!(server.next_event(), Event::Dropped);
}

#[test]
fn an_upgraded_connection_is_a_tunnel_and_counts_as_open() {
    let server = start(&limits());
    let mut stream = server.connect();
    let request = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst";
    stream.write_all(request).expect("open");
    assert!(until(&mut stream, "\r\n\r\nfirst").starts_with("HTTP/1.1 101 "));
    stream.write_all(b"second").expect("open");
    until(&mut stream, "second");
    assert_eq!(server.totals().open, 1);
    drop(stream);
    wait_for(|| server.totals().open == 0);
}

#[test]
fn expect_100_continue_is_answered_when_the_body_is_wanted() {
    let server = start(&limits());
    let mut stream = server.connect();
    let head = b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head).expect("open");
    assert_eq!(until(&mut stream, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").expect("open");
    until(&mut stream, "hello");
}

#[test]
fn an_answer_arrives_though_the_body_was_not_read() {
    let server = start(&limits());
    let mut stream = server.connect();
    let head = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &[b'x'; 200_000]].concat()).expect("the server reads on");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("no reset");
    assert_eq!(statuses(&answer), [200], "{answer}");
}
