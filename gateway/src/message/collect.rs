//! A whole body in memory, under a limit.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;

use super::body::{Body, BodyError};

/// A body that came to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What it said.
    pub bytes: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

/// Reads a body to its end. A larger `Content-Length` is refused before the first byte.
pub async fn collect(mut body: Body, content_length: Option<u64>, bytes_max: u64) -> Result<Collected, BodyError> {
    let announced = content_length.unwrap_or(0).max(body.size_hint().lower());
    if announced > bytes_max {
        return Err(BodyError::TooLarge { bytes_max });
    }
    let (mut first, mut all, mut trailers) = (Bytes::new(), BytesMut::new(), None);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        let length = (first.len() as u64).saturating_add(all.len() as u64).saturating_add(data.len() as u64);
        if length > bytes_max {
            return Err(BodyError::TooLarge { bytes_max });
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            // Announced lengths are a caller's word, so only little is reserved for them.
            all.reserve(usize::try_from(announced.min(RESERVED_BYTES_MAX)).unwrap_or(0).max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Collected { bytes, trailers })
}

const RESERVED_BYTES_MAX: u64 = 256 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Poll};

    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    #[derive(Debug)]
    struct Frames(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn frames(pieces: &[&'static str]) -> Body {
        Body::wrap(Frames(pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))).collect()))
    }

    #[tokio::test]
    async fn frames_are_joined_and_trailers_kept() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
        let mut all: VecDeque<_> = ["ab", "", "cd"].map(|s| Frame::data(Bytes::from_static(s.as_bytes()))).into();
        all.push_back(Frame::trailers(trailers.clone()));
        let collected = collect(Body::wrap(Frames(all)), None, 4).await.unwrap();
        assert_eq!(collected, Collected { bytes: "abcd".into(), trailers: Some(trailers) });
        assert_eq!(collect(Body::Empty, None, 0).await.unwrap(), Collected::default());
    }

    #[tokio::test]
    async fn one_frame_is_not_copied() {
        let bytes = Bytes::from(vec![7; 100]);
        let collected = collect(Body::Full(bytes.clone()), Some(100), 100).await.unwrap();
        assert_eq!(collected.bytes.as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn more_than_the_limit_is_refused() {
        assert!(matches!(collect(frames(&["ab", "cd"]), None, 3).await, Err(BodyError::TooLarge { bytes_max: 3 })));
        assert!(collect(frames(&["ab"]), Some(4), 3).await.is_err());
        assert!(collect(Body::full("abcd"), None, 3).await.is_err());
    }
}
