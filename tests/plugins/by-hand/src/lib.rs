//! `wasi:http` by hand, for what no library does. Natively there is none.

#![cfg(target_family = "wasm")]

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};

fn request(authority: &str, path: &str, fields: Fields) -> OutgoingRequest {
    let request = OutgoingRequest::new(fields);
    let set = request.set_scheme(Some(&Scheme::Http));
    let set = set.and_then(|()| request.set_authority(Some(authority)));
    set.and_then(|()| request.set_path_with_query(Some(path))).expect("a URL");
    request
}

/// A request on its way.
pub struct Pending(FutureIncomingResponse);

/// Sends a request and does not wait.
pub fn begin(authority: &str, path: &str) -> Pending {
    Pending(outgoing_handler::handle(request(authority, path, Fields::new()), None).expect("it begins"))
}

impl Pending {
    /// Waits for the answer, and tells its status or what went wrong.
    pub fn end(&self) -> String {
        self.0.subscribe().block();
        match self.0.get() {
            Some(Ok(Ok(answer))) => answer.status().to_string(),
            Some(Ok(Err(code))) => format!("{code:?}"),
            other => format!("{other:?}"),
        }
    }
}

/// Sends five bytes, whatever is declared.
pub fn declared(authority: &str, length: usize) -> String {
    let fields = Fields::new();
    fields.append("content-length", length.to_string().as_bytes()).expect("a length");
    let request = request(authority, "/", fields);
    request.set_method(&Method::Post).expect("a method");
    let body = request.body().expect("a body");
    let pending = outgoing_handler::handle(request, None).expect("it begins");
    let stream = body.write().expect("a stream");
    // What is too long may be refused here, or at the end.
    let _ = stream.blocking_write_and_flush(b"hello");
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Pending(pending).end()
}

/// Takes one handle and so many of one kind, each for 16,000 bytes or more, or until there are none.
pub fn hoard(what: &str, count: usize) {
    let large = filled();
    let (mut all, mut requests, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        match what {
            "fields" => all.push(filled()),
            "clones" => all.push(large.clone()),
            "authorities" => {
                let request = OutgoingRequest::new(Fields::new());
                request.set_authority(Some(&"a".repeat(LARGE_BYTES))).expect("an authority");
                requests.push(request);
            }
            "bodies" => {
                let request = OutgoingRequest::new(Fields::new());
                bodies.push(request.body().expect("a body"));
                requests.push(request);
            }
            _ => panic!("there is no `{what}`"),
        }
    }
}

/// Puts as much behind handles, and lets go of it or puts other things in its place.
pub fn let_go() {
    let kept = filled();
    for _ in 0..300 {
        drop(filled());
        drop(kept.clone());
        kept.set("x", &[vec![b'y'; LARGE_BYTES]]).expect("a field");
    }
}

fn filled() -> Fields {
    let fields = Fields::new();
    fields.append("x", &[b'x'; LARGE_BYTES]).expect("a field");
    fields
}

/// Has one function carry so many bytes, there or back, so many times.
pub fn carry(function: &str, bytes: usize, times: usize) {
    let (text, value) = ("x".repeat(bytes), vec![b'x'; bytes]);
    let path = format!("/{text}");
    let fields = Fields::new();
    let request = OutgoingRequest::new(Fields::new());
    if ["get back", "entries", "clone"].contains(&function) {
        fields.append("x", &value).expect("a field");
    }
    let entries = [("x".to_owned(), value.clone())];
    let (values, method, scheme) = ([value.clone()], Method::Other(text.clone()), Scheme::Other(text.clone()));
    if function == "authority" {
        request.set_authority(Some(&text)).expect("an authority");
    }
    for _ in 0..times {
        match function {
            "has" => assert!(!fields.has(&text)),
            "get" => assert!(fields.get(&text).is_empty()),
            "get back" => assert_eq!(fields.get("x").len(), 1),
            "entries" => assert_eq!(fields.entries().len(), 1),
            "clone" => drop(fields.clone()),
            "delete" => drop(fields.delete(&text)),
            "set" => fields.set("x", &values).expect("a field"),
            "append" => Fields::new().append("x", &value).expect("a field"),
            "from list" => drop(Fields::from_list(&entries).expect("fields")),
            "authority" => assert!(request.authority().is_some()),
            "set authority" => request.set_authority(Some(&text)).expect("an authority"),
            "set path" => request.set_path_with_query(Some(&path)).expect("a path"),
            "set method" => request.set_method(&method).expect("a method"),
            // It is too long for one.
            "set scheme" => assert!(request.set_scheme(Some(&scheme)).is_err()),
            _ => panic!("there is no `{function}`"),
        }
    }
}

const LARGE_BYTES: usize = 16_000;
