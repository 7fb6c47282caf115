//! Requests that two servers could read in two ways. What follows a doubtful one on the connection is never answered.

use super::harness::*;

/// Sends a request with a second one behind it, and compares the statuses until the connection closes.
#[track_caller]
fn check(request: &str, expected: &[u16]) -> String {
    let server = start(&limits());
    let answer = server.send_until_close(format!("{request}{SECOND}").as_bytes());
    assert_eq!(statuses(&answer), expected, "{request:?} got {answer:?}");
    answer
}

#[test]
fn lengths_that_are_in_doubt_are_refused() {
    let post = |fields: &str, body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}");
    // RFC 9112, 6.3: chunked wins over a length, and the connection closes after the answer.
    check(&post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[200]);
    check(&post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), &[200]);
    check(&post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), &[400]);
    check(&post("Content-Length: 3, 4\r\n", "abc"), &[400]);
    check(&post("Content-Length: 3, 3\r\n", "abc"), &[400]);
    check(&post("Content-Length: +3\r\n", "abc"), &[400]);
    check(&post("Content-Length: -3\r\n", "abc"), &[400]);
    check(&post("Content-Length: 0x3\r\n", "abc"), &[400]);
    check(&post("Content-Length:\r\n", "abc"), &[400]);
    check(&post("Content-Length: 99999999999999999999\r\n", "abc"), &[400]);
    check(&post("Content-Length: 3\r\nContent-Length: 3\r\nConnection: close\r\n", "abc"), &[200]);
}

#[test]
fn transfer_codings_other_than_chunked_are_refused() {
    let post = |fields: &str, body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}");
    check(&post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding:\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[501]);
    check(&post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[501]);
    check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[501]);
    check(&post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"), &[400]);
    check(&post("Transfer-Encoding: Chunked\r\nConnection: close\r\n", "0\r\n\r\n"), &[200]);
    check("POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]);
}

#[test]
fn broken_chunks_end_the_connection() {
    let post = |body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for body in
        ["x\r\n", "-1\r\n", "0x1\r\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "11111111111111111\r\n", "1 1\r\na\r\n"]
    {
        let server = start(&limits());
        let answer = server.send_until_close(format!("{}{SECOND}", post(body)).as_bytes());
        assert!(!answer.contains("GET /second"), "{body:?} got {answer:?}");
        assert!(!answer.contains("\r\n\r\na"), "{body:?} got {answer:?}");
    }
}

#[test]
fn broken_field_lines_are_refused() {
    let get = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    check(&get("A: b\r\n c\r\n"), &[400]);
    check(&get("A: b\r\n\tc\r\n"), &[400]);
    check(&get("A : b\r\n"), &[400]);
    check(&get(" A: b\r\n"), &[400]);
    check(&get("A\r\n"), &[400]);
    check(&get(": b\r\n"), &[400]);
    check(&get("A: b\rC: d\r\n"), &[400]);
    check(&get("A: b\0\r\n"), &[400]);
    check("GET /a HTTP/1.1\r\n Host: x\r\n\r\n", &[400]);
    // A single line feed may end a line (RFC 9112, 2.2). It never reaches the upstream: the head is written anew.
    check("GET /a HTTP/1.1\nHost: x\nConnection: close\n\n", &[200]);
}

#[test]
fn broken_request_lines_are_refused() {
    let request = |line: &str| format!("{line}\r\nHost: x\r\n\r\n");
    check(&request("GET  /a HTTP/1.1"), &[400]);
    check(&request("GET /a b HTTP/1.1"), &[400]);
    check(&request("GET /a HTTP/1.2"), &[400]);
    check(&request("GET /a HTTP/2.0"), &[400]);
    check(&request("GET /a http/1.1"), &[400]);
    check(&request("GET /a"), &[400]);
    check(&request("G(T /a HTTP/1.1"), &[400]);
    check(&request("GET a HTTP/1.1"), &[400]);
    check(&request("GET x:80 HTTP/1.1"), &[400]);
    check(&request("GET ftp://x/a HTTP/1.1"), &[400]);
    check(&request("GET http://y@x/a HTTP/1.1"), &[400]);
    check(&request("GET http:///a HTTP/1.1"), &[400]);
    check(&request("GET * HTTP/1.1"), &[400]);
    check(&request("OPTIONS * HTTP/1.1\r\nConnection: close"), &[200]);
    check(&request("CONNECT x:80 HTTP/1.1"), &[405]);
    check(&request("CONNECT /a HTTP/1.1"), &[405]);
}

#[test]
fn the_host_is_there_once_and_valid() {
    check("GET /a HTTP/1.1\r\n\r\n", &[400]);
    check("GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", &[400]);
    check("GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", &[400]);
    check("GET /a HTTP/1.1\r\nHost: x, y\r\n\r\n", &[400]);
    check("GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n", &[400]);
    check("GET /a HTTP/1.1\r\nHost: y@x\r\n\r\n", &[400]);
    check("GET /a HTTP/1.0\r\n\r\n", &[200]);
}

#[test]
fn the_host_of_the_target_wins() {
    let close = "Connection: close\r\n\r\n";
    let answer = check(&format!("GET http://y:81/host HTTP/1.1\r\nHost: x\r\n{close}"), &[200]);
    assert!(answer.ends_with("\r\n\r\ny:81"), "{answer}");
    let answer = check(&format!("GET http://y/hosts HTTP/1.1\r\nHost: x\r\n{close}"), &[200]);
    assert!(answer.ends_with("\r\n\r\n0"), "{answer}");
    let answer = check(&format!("GET /host HTTP/1.1\r\nHost: x\r\n{close}"), &[200]);
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
}

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";
