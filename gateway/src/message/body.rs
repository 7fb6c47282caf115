//! A body on its way through the gateway: streamed where nobody looks at it, whole where a plugin made it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request or response.
///
/// Not `Send`: a request lives on one core.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Known as a whole.
    Full(Bytes),
    /// As it comes from the connection, untouched.
    Incoming(Incoming),
    /// With something done on the way: counted, timed, limited, given back to a pool at its end.
    Wrapped(Wrapped),
}

/// By when an answer has to have left as a whole; among the extensions of an HTTP/2 response. The body itself cannot see
/// to it: nobody asks it for more while the caller takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaveBy(pub Instant);

type Wrapped = Pin<Box<dyn WrappedBody>>;

/// What [`Body::Wrapped`] holds.
pub trait WrappedBody: http_body::Body<Data = Bytes, Error = BodyError> + std::fmt::Debug {}

impl<B: http_body::Body<Data = Bytes, Error = BodyError> + std::fmt::Debug> WrappedBody for B {}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side broke off, or broke the protocol.
    #[error("connection ended within a body")]
    Connection(#[source] hyper::Error),
    /// It is longer than may be.
    #[error("body is longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit that it went over.
        bytes_max: u64,
    },
    /// The next bytes did not come in time, or the time of the whole request was over.
    #[error("body did not come in time")]
    Timeout,
    /// Who makes it broke it off.
    #[error("body was broken off")]
    BrokenOff,
    /// Its content coding is broken.
    #[error("body is not valid `{coding}`")]
    Coding {
        /// The coding that it claims.
        coding: &'static str,
    },
}

impl Body {
    /// Wraps a body of another type.
    pub fn wrap(body: impl WrappedBody + 'static) -> Self {
        Self::Wrapped(Box::pin(body))
    }

    /// Bytes known as a whole; [`Body::Empty`] for none.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::take(&mut *self) else { return Poll::Ready(None) };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|f| f.map(|r| r.map_err(BodyError::Connection)))
            }
            Self::Wrapped(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Wrapped(body) => body.size_hint(),
        }
    }
}
