//! A request, all of which follows from its number, and what its answer must be.
#![expect(clippy::indexing_slicing, reason = "dice have as many sides as there are choices")]

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::line::Dialect;

/// The files that nginx serves.
pub(crate) const FILES: [(&str, usize); 4] = [("1k", 1 << 10), ("64k", 64 << 10), ("1m", 1 << 20), ("5m", 5 << 20)];

/// One request.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    method: Method,
    path: String,
    sends: usize,
    /// The size of the file that is asked for.
    file: Option<usize>,
}

impl Job {
    pub(crate) fn new(dialect: Dialect, number: u64) -> Self {
        let id = format!("{dialect:?}-{number}");
        let mut dice = Dice(number.wrapping_mul(4).wrapping_add(dialect as u64));
        let api = if dice.throw(4) == 0 { "read" } else { "soak" };
        if dice.throw(3) == 0 {
            let (name, size) = FILES[dice.size()];
            let method = if dice.throw(5) == 0 { Method::HEAD } else { Method::GET };
            return Self { id, method, path: format!("/{api}/{name}"), sends: 0, file: Some(size) };
        }
        let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD];
        let method = methods[dice.throw(5)].clone();
        let sends = match method {
            Method::POST | Method::PUT => {
                // A plugin that reads bodies is not given more than this.
                let most = if api == "read" { 1 << 20 } else { 5 << 20 };
                [dice.throw(1025), 64 << 10, 1 << 20, most][dice.size()]
            }
            _ => 0,
        };
        let place = if dice.throw(2) == 0 { "early" } else { "whole" };
        Self { id, method, path: format!("/{api}/{place}"), sends, file: None }
    }

    pub(crate) fn request(&self, dialect: Dialect) -> Request<Full<Bytes>> {
        let scheme = if dialect.is_tls() { "https" } else { "http" };
        let uri = if dialect.is_http2() { format!("{scheme}://localhost{}", self.path) } else { self.path.clone() };
        let mut request = Request::builder().method(&self.method).uri(uri).header("x-id", &self.id);
        if !dialect.is_http2() {
            request = request.header(header::HOST, "localhost");
        }
        request = request.header(header::AUTHORIZATION, "Bearer test");
        request.body(Full::new(pattern(self.sends))).expect("a request")
    }

    /// Reads an answer without keeping it, and says what is wrong with it.
    pub(crate) async fn check(&self, response: Response<Incoming>) -> Result<(), String> {
        let (head, mut body) = response.into_parts();
        let mut text = Vec::new();
        let (mut length, mut is_pattern) = (0, true);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("after {length} bytes: {error:?}"))?;
            let Ok(data) = frame.into_data() else { continue };
            match self.file {
                Some(_) => is_pattern &= PATTERN.get(length..length + data.len()) == Some(&data),
                None => text.extend_from_slice(&data),
            }
            length += data.len();
        }
        let text = String::from_utf8_lossy(&text);
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let expected = format!("{} {} ", self.method, self.id);
        let expected_lengths = [self.sends.to_string(), String::new()];
        let is_echo = |text: &str| {
            let sent = text.strip_prefix(&expected);
            sent.is_some_and(|sent| sent == expected_lengths[0] || self.sends == 0 && sent == expected_lengths[1])
        };
        let is_right_body = match (&self.method, self.file) {
            (&Method::HEAD, Some(size)) => length == 0 && header("content-length") == size.to_string(),
            (&Method::HEAD, None) => length == 0,
            (_, Some(size)) => length == size && is_pattern,
            (_, None) => is_echo(&text),
        };
        let is_right_head = head.status == 200
            && header("x-id") == self.id
            && header("x-trace") == "response"
            && header("x-trace-request") == "pre,post_auth,endpoint,post";
        if is_right_head && is_right_body {
            return Ok(());
        }
        Err(format!("{} {:?}, {length} bytes: {text:.200}", head.status, head.headers))
    }
}

/// The beginning of one endless text that does not repeat soon.
pub(crate) fn pattern(size: usize) -> Bytes {
    PATTERN.slice(..size)
}

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut dice = Dice(7);
    (0..5 << 20).map(|_| b"0123456789abcdef"[dice.throw(16)]).collect()
});

/// Numbers that look random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).expect("31 bits") % sides
    }

    /// 90 % smallest, 9 % next, and 1 % the two large ones.
    fn size(&mut self) -> usize {
        match self.throw(1000) {
            0..900 => 0,
            900..990 => 1,
            990..998 => 2,
            _ => 3,
        }
    }
}
