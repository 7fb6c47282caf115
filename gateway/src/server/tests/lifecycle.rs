//! Connection limits, uneven workers, draining.

use std::io::Write;
use std::time::Duration;

use super::harness::*;
use crate::model::gateway::ServerLimits;

#[test]
fn a_connection_above_the_limit_is_closed_at_once_and_there_is_room_again_after_one_ends() {
    let server = start(&ServerLimits { connections_max: 1, ..limits() });
    let mut first = server.connect();
    first.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut first, "GET /a");

    assert_eq!(server.send_until_close(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"), "");
    assert_eq!((server.totals().refused, server.totals().open), (1, 1));

    drop(first);
    wait_for(|| server.totals().open == 0);
    let mut third = server.connect();
    third.write_all(b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut third, "GET /c");
}

// limit: limits.drain_timeout_ms counts: aborted
#[test]
fn a_request_in_flight_is_answered_and_nothing_new_is_taken() {
    let server = start(&limits());
    let mut busy = server.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    assert_eq!(server.next_event(), Event::Waiting);
    let mut idle = server.connect();
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut idle, "GET /a");

    server.begin_drain();

    assert_eq!(until_close(&mut idle), "");
    wait_for(|| std::net::TcpStream::connect(server.address).is_err());
    server.release.notify_one();
    let answer = until_close(&mut busy);
    assert!(answer.contains("connection: close") && answer.ends_with("waited"), "{answer}");
    server.stop_and(|totals| assert_eq!(totals.aborted, 0));
}

#[test]
fn a_drain_does_not_cut_an_answer_that_is_being_read() {
    let server = start(&limits());
    let mut stream = server.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    until(&mut stream, "\r\n\r\n");

    server.begin_drain();
    wait_for(|| std::net::TcpStream::connect(server.address).is_err());

    assert_eq!(until_close(&mut stream).len(), 64 << 20);
    assert_eq!(server.stop(), 0);
}

// limit: limits.drain_timeout_ms counts: aborted
#[test]
fn what_is_left_after_the_drain_is_cut_off_and_counted() {
    let server = start(&ServerLimits { drain_timeout: Duration::from_millis(50), ..limits() });
    let mut busy = server.connect();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
    assert_eq!(server.next_event(), Event::Waiting);
    let mut tunnel = server.connect();
    tunnel
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .expect("open");
    until(&mut tunnel, "\r\n\r\n");
    let counters = server.server.clone();

    assert_eq!(server.stop(), 2);

    assert_eq!(until_close(&mut busy), "");
    assert_eq!(until_close(&mut tunnel), "");
    assert_eq!(counters.totals().aborted, 2);
}

#[test]
fn a_worker_with_far_more_connections_hands_new_ones_on() {
    let server = start_with(&limits(), 2, None);

    let mut streams: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
        until(stream, "GET /a");
    }

    assert_eq!(server.totals().open, 300);
    drop(streams);
    assert_eq!(server.stop(), 0);
}

#[test]
fn connections_of_a_silent_worker_are_served_by_the_other() {
    use crate::model::gateway::Listener;
    use crate::server::Server;
    let listener = Listener { address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)), tls: None };
    let mut server = Server::bind(&[listener], 2, &limits(), &[]).expect("a free port");
    // Only the second worker has a socket, so everything arrives there.
    server.seats[0].listeners.clear();
    let (address, counters) = (server.addresses[0], server.counters.clone());

    let running = run(server);
    let mut streams: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).expect("open")).collect();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("open");
        until(stream, "served");
    }

    assert!(counters.totals().handed_on >= 40, "{:?}", counters.totals());
    drop(streams);
    running();
}

const UPLOAD: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n";

/// Sends the head of a long upload, of which nothing is read, and takes the answer up to its end.
fn early_answer(server: &Running) -> std::net::TcpStream {
    let mut stream = server.connect();
    stream.write_all(UPLOAD).expect("open");
    assert!(until_close(&mut stream).ends_with("POST /a"));
    stream
}

// limit: limits.linger_bytes_max counts: lingering_cut
#[test]
fn what_comes_after_an_early_answer_is_read_up_to_a_limit() {
    for (bytes, is_cut) in [(100_000, 1), (99_999, 0)] {
        let server = start(&ServerLimits { linger_bytes_max: 100_000, ..limits() });
        let mut stream = early_answer(&server);
        stream.write_all(&vec![b'x'; bytes]).expect("it is read");
        // A caller that may send more is cut off without a word from it.
        let _held = (is_cut == 1).then_some(stream);

        wait_for(|| server.totals().open == 0);
        assert_eq!((server.totals().lingering, server.totals().lingering_cut), (1, is_cut), "{bytes}");
    }
}

// limit: limits.linger_timeout_ms counts: lingering_cut
#[test]
fn a_caller_that_stops_after_an_early_answer_is_waited_for_up_to_a_limit() {
    let server = start(&ServerLimits { linger_timeout: Duration::from_millis(50), ..limits() });
    let mut stream = early_answer(&server);
    stream.write_all(b"more").expect("open");

    wait_for(|| server.totals().open == 0);

    assert_eq!((server.totals().lingering, server.totals().lingering_cut), (1, 1));
}

// limit: limits.linger_time_max_ms counts: lingering_cut
#[test]
fn a_caller_that_trickles_after_an_early_answer_is_cut_off() {
    let server = start(&ServerLimits { linger_time_max: Duration::from_millis(50), ..limits() });
    let stream = early_answer(&server);

    wait_for(|| (&stream).write_all(b"x").is_err());

    assert_eq!((server.totals().lingering, server.totals().lingering_cut), (1, 1));
}

// limit: limits.linger_bytes_max counts: lingering_cut
// limit: limits.linger_timeout_ms counts: lingering_cut
// limit: limits.linger_time_max_ms counts: lingering_cut
#[test]
fn a_caller_that_is_done_after_an_early_answer_is_not_counted_as_cut_off() {
    let server = start(&limits());
    let mut stream = early_answer(&server);
    stream.write_all(b"more").expect("open");
    drop(stream);

    wait_for(|| server.totals().open == 0);

    assert_eq!((server.totals().lingering, server.totals().lingering_cut), (1, 0));
}

#[test]
fn a_drain_does_not_wait_for_callers_that_still_send() {
    let long = Duration::from_secs(3600);
    let limits = ServerLimits { linger_timeout: long, linger_time_max: long, drain_timeout: long, ..limits() };
    let server = start(&limits);
    let _stream = early_answer(&server);

    assert_eq!(server.stop(), 0);
}
