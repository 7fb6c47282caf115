//! What no library does: `wasi:http` by hand.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};

fn request(authority: &str, path: &str, fields: Fields) -> OutgoingRequest {
    let request = OutgoingRequest::new(fields);
    let set = request.set_scheme(Some(&Scheme::Http));
    let set = set.and_then(|()| request.set_authority(Some(authority)));
    set.and_then(|()| request.set_path_with_query(Some(path))).expect("a URL");
    request
}

fn begin(authority: &str, path: &str) -> FutureIncomingResponse {
    outgoing_handler::handle(request(authority, path, Fields::new()), None).expect("it begins")
}

fn end(pending: &FutureIncomingResponse) -> String {
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Ok(answer))) => answer.status().to_string(),
        Some(Ok(Err(code))) => format!("{code:?}"),
        other => format!("{other:?}"),
    }
}

/// Five bytes, whatever is declared.
pub(super) fn declared(authority: &str, length: usize) -> String {
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
    end(&pending)
}

/// Three requests that wait for their answers together.
pub(super) fn at_once(authority: &str) -> String {
    let pending: Vec<_> = (0..3).map(|_| begin(authority, "/slow")).collect();
    let mut ended: Vec<_> = pending.iter().map(end).collect();
    ended.sort_unstable();
    ended.join(", ")
}

/// The request has left before the call ends.
pub(super) fn leave_behind(authority: &str) -> String {
    let pending = begin(authority, "/slow");
    let first = begin(authority, "/");
    let told = end(&first);
    std::mem::forget(pending);
    told
}

pub(super) fn hoard() -> String {
    let mut hoard = Vec::new();
    loop {
        let fields = Fields::new();
        fields.append("x", &[b'x'; 8_000]).expect("a field");
        hoard.push(fields);
    }
}
