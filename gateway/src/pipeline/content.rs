//! A message's body on its way past plugins: streamed until one wants it whole, decoded for those who read it, and with
//! framing put right at the end.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};

use crate::message::body::{Body, BodyError};
use crate::message::coding::Decoder;
use crate::message::collect::collect;

/// A body that plugins may read and replace.
#[derive(Debug)]
pub struct Content(State);

#[derive(Debug)]
enum State {
    /// Nobody looked at it.
    Streamed(Body),
    /// Read as a whole: as it came, and decoded where that is something else.
    Whole { raw: Bytes, decoded: Option<Bytes>, trailers: Option<HeaderMap> },
    /// A plugin or the gateway made it.
    Made(Bytes),
}

/// Why a body cannot be handed to a plugin.
#[derive(Debug)]
pub enum ContentError {
    /// It is too large, does not come, or is broken.
    Body(BodyError),
    /// Its content coding is not known.
    CodingUnknown,
}

impl Content {
    /// A body that is on its way.
    pub fn streamed(body: Body) -> Self {
        Self(State::Streamed(body))
    }

    /// A body that is known.
    pub fn made(bytes: Bytes) -> Self {
        Self(State::Made(bytes))
    }

    /// The decoded body as a whole, if it is not longer than this.
    pub async fn whole(&mut self, headers: &HeaderMap, bytes_max: u64) -> Result<&[u8], ContentError> {
        if let State::Streamed(body) = &mut self.0 {
            let body = std::mem::take(body);
            let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            let collected = collect(body, length, bytes_max).await.map_err(ContentError::Body)?;
            let (raw, trailers) = (collected.bytes, collected.trailers);
            let decoded = decode(headers, &raw, bytes_max)?;
            self.0 = State::Whole { raw, decoded, trailers };
        }
        let whole: &[u8] = match &self.0 {
            State::Whole { raw, decoded, .. } => decoded.as_ref().unwrap_or(raw),
            State::Made(bytes) => bytes,
            State::Streamed(_) => &[],
        };
        if u64::try_from(whole.len()).unwrap_or(u64::MAX) > bytes_max {
            return Err(ContentError::Body(BodyError::TooLarge { bytes_max }));
        }
        Ok(whole)
    }

    /// The decoded body, if it was read as a whole.
    pub fn known(&self) -> Option<&[u8]> {
        match &self.0 {
            State::Streamed(_) => None,
            State::Whole { raw, decoded, .. } => Some(decoded.as_ref().unwrap_or(raw)),
            State::Made(bytes) => Some(bytes),
        }
    }

    /// Puts another body in its place, without content coding.
    pub fn replace(&mut self, bytes: Bytes, headers: &mut HeaderMap) {
        headers.remove(CONTENT_ENCODING);
        // Digests of another content; RFC 9530, and RFC 1864 before it.
        for digest in ["content-digest", "repr-digest", "digest", "content-md5"] {
            headers.remove(digest);
        }
        self.0 = State::Made(bytes);
    }

    /// The body to send, with the framing fields that fit it: the connection derives what it needs from the body's size.
    pub fn into_body(self, headers: &mut HeaderMap) -> Body {
        match self.0 {
            State::Streamed(body) => body,
            State::Whole { raw, trailers: Some(trailers), .. } => {
                headers.remove(CONTENT_LENGTH);
                Body::wrap(WithTrailers { data: Some(raw), trailers: Some(trailers) })
            }
            State::Whole { raw: bytes, trailers: None, .. } | State::Made(bytes) => {
                headers.remove(TRANSFER_ENCODING);
                headers.remove(TRAILER);
                headers.remove(CONTENT_LENGTH);
                if !bytes.is_empty() {
                    headers.insert(CONTENT_LENGTH, bytes.len().into());
                }
                Body::full(bytes)
            }
        }
    }
}

/// Undoes the content codings that the header names; `None` where there are none.
fn decode(headers: &HeaderMap, raw: &Bytes, bytes_max: u64) -> Result<Option<Bytes>, ContentError> {
    // A message without content has nothing to decode, whatever its header says: answers to HEAD are so.
    if raw.is_empty() {
        return Ok(None);
    }
    let decoder = Decoder::for_headers(headers, bytes_max).map_err(|_| ContentError::CodingUnknown)?;
    let Some(mut decoder) = decoder else { return Ok(None) };
    decoder.push(raw).and_then(|()| decoder.finish()).map(Some).map_err(ContentError::Body)
}

/// A known body with the trailers that came with it.
#[derive(Debug)]
struct WithTrailers {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let data = self.data.take().filter(|data| !data.is_empty()).map(http_body::Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(http_body::Frame::trailers));
        std::task::Poll::Ready(frame.map(Ok))
    }
}
