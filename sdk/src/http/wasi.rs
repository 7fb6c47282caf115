//! The client over `wasi:http`.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, HeaderError, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::{Error, Request, Response};

pub(super) fn send(request: Request) -> Result<Response, Error> {
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields.append(name, value).map_err(|error| match error {
            HeaderError::InvalidSyntax | HeaderError::Forbidden | HeaderError::Immutable => Error::HeaderInvalid,
        })?;
    }
    if !request.body.is_empty() && !fields.has("content-length") {
        let length = request.body.len().to_string();
        fields.append("content-length", length.as_bytes()).map_err(|_| Error::HeaderInvalid)?;
    }
    let (scheme, authority, path) = split(&request.url).ok_or(Error::UrlInvalid)?;
    let outgoing = OutgoingRequest::new(fields);
    outgoing.set_method(&method(&request.method)).map_err(|()| Error::HeaderInvalid)?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| Error::UrlInvalid)?;
    outgoing.set_authority(Some(authority)).map_err(|()| Error::UrlInvalid)?;
    outgoing.set_path_with_query(Some(path)).map_err(|()| Error::UrlInvalid)?;
    let options = request.timeout.map(|timeout| {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let options = RequestOptions::new();
        // An option that the host does not know leaves its own limits.
        let _ = options.set_first_byte_timeout(Some(nanoseconds));
        let _ = options.set_between_bytes_timeout(Some(nanoseconds));
        options
    });
    let body = match request.body.is_empty() {
        true => None,
        false => Some(outgoing.body().map_err(|()| Error::HeaderInvalid)?),
    };
    let pending = outgoing_handler::handle(outgoing, options).map_err(failed)?;
    if let Some(body) = body {
        let written = body.write().map_err(|()| Error::Failed("the body cannot be written".to_owned()));
        // Where writing fails, the answer says why.
        if written.and_then(|stream| write(&stream, &request.body)).is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
    pending.subscribe().block();
    let gone = || Error::Failed("the answer is gone".to_owned());
    let answer = pending.get().ok_or_else(gone)?.map_err(|()| gone())?.map_err(failed)?;
    let headers = answer.headers().entries();
    let status = answer.status();
    let incoming = answer.consume().map_err(|()| gone())?;
    Ok(Response { status, headers, body: read(incoming)? })
}

fn split(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match url.split_once("://")? {
        ("https", rest) => (Scheme::Https, rest),
        ("http", rest) => (Scheme::Http, rest),
        _ => return None,
    };
    let ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(ends);
    let path = path.split('#').next().unwrap_or_default();
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn write(stream: &OutputStream, body: &[u8]) -> Result<(), Error> {
    body.chunks(WRITE_BYTES_MAX).try_for_each(|chunk| stream.blocking_write_and_flush(chunk)).map_err(broken)
}

fn read(incoming: IncomingBody) -> Result<Vec<u8>, Error> {
    let stream: InputStream = incoming.stream().map_err(|()| Error::Failed("the answer is gone".to_owned()))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(body),
            Err(error) => return Err(broken(error)),
        }
    }
}

fn broken(error: StreamError) -> Error {
    match error {
        StreamError::Closed => Error::Failed("the connection ended".to_owned()),
        StreamError::LastOperationFailed(error) => match wasip2::http::types::http_error_code(&error) {
            Some(code) => failed(code),
            None => Error::Failed(error.to_debug_string()),
        },
    }
}

fn failed(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied,
        ErrorCode::HttpRequestUriInvalid => Error::UrlInvalid,
        ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionTimeout | ErrorCode::DnsTimeout => Error::Timeout,
        ErrorCode::ConnectionLimitReached
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpResponseBodySize(_)
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSectionSize(_) => Error::TooMuch,
        other => Error::Failed(format!("{other:?}")),
    }
}

/// What `blocking-write-and-flush` takes.
const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES: u64 = 64 << 10;
