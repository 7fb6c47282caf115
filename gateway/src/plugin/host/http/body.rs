//! Bodies of outgoing requests and their answers, on their way between a guest and a connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use super::gate::Refused;
use crate::message::body::BodyError;

/// What a guest writes: so long as it may be, and exactly as long as it said. Trailers are not sent.
#[derive(Debug)]
pub(super) struct Upload {
    first: Option<Result<Frame<Bytes>, Error>>,
    body: WasiBody,
    bytes_max: u64,
    left: u64,
    /// What is missing of the declared length.
    owed: Option<u64>,
    is_done: bool,
}

impl Upload {
    pub(super) fn new(
        first: Option<Result<Frame<Bytes>, Error>>,
        body: WasiBody,
        length: Option<u64>,
        bytes_max: u64,
    ) -> Self {
        Self { first, body, bytes_max, left: bytes_max, owed: length, is_done: false }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), BodyError> {
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(BodyError::TooLarge { bytes_max: self.bytes_max })?;
        if let Some(owed) = &mut self.owed {
            *owed = owed.checked_sub(bytes).ok_or(BodyError::BrokenOff)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.is_done = true;
        (self.owed.unwrap_or(0) != 0).then_some(Err(BodyError::BrokenOff))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if self.owed.is_some_and(|owed| owed > self.left) {
            self.is_done = true;
            return Poll::Ready(Some(Err(BodyError::TooLarge { bytes_max: self.bytes_max })));
        }
        let frame = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(Pin::new(&mut self.body).poll_frame(cx)),
        };
        Poll::Ready(match frame {
            None => self.end(),
            Some(Err(_)) => {
                self.is_done = true;
                Some(Err(BodyError::BrokenOff))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Err(_) => self.end(),
                Ok(data) => match self.take(&data) {
                    Ok(()) => Some(Ok(Frame::data(data))),
                    Err(error) => {
                        self.is_done = true;
                        Some(Err(error))
                    }
                },
            },
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.owed.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a guest reads.
pub(super) struct Answer {
    frames: mpsc::Receiver<Frame<Bytes>>,
    end: Option<oneshot::Receiver<Result<(), Refused>>>,
}

impl Answer {
    pub(super) fn new(frames: mpsc::Receiver<Frame<Bytes>>, end: oneshot::Receiver<Result<(), Refused>>) -> Self {
        Self { frames, end: Some(end) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = ready!(self.frames.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let ended = ready!(Pin::new(end).poll(cx)).unwrap_or(Err(Refused::Aborted));
        self.end = None;
        Poll::Ready(ended.err().map(|refused| Err(refused.into())))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn upload(data: &'static str, length: Option<u64>, bytes_max: u64) -> Upload {
        let body = Full::new(Bytes::from_static(data.as_bytes())).map_err(|never| match never {}).boxed_unsync();
        Upload::new(None, body, length, bytes_max)
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_says_and_as_it_may_be() {
        for (length, bytes_max, expected) in [
            (None, 5, Ok("hello")),
            (Some(5), 5, Ok("hello")),
            (Some(6), 9, Err("body was broken off")),
            (Some(4), 9, Err("body was broken off")),
            (None, 4, Err("body is longer than 4 bytes")),
            (Some(5), 4, Err("body is longer than 4 bytes")),
        ] {
            let sent = upload("hello", length, bytes_max).collect().await;
            let sent = sent.map(|body| body.to_bytes()).map_err(|error| error.to_string());
            assert_eq!(sent, expected.map(Bytes::from).map_err(str::to_owned), "{length:?} {bytes_max}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_off_does_not_look_whole() {
        for (told, is_whole) in [(Some(Ok(())), true), (Some(Err(Refused::Closed)), false), (None, false)] {
            let (frames, received) = mpsc::channel(1);
            let (end, ended) = oneshot::channel();
            frames.try_send(Frame::data(Bytes::from_static(b"part"))).unwrap();
            if let Some(told) = told {
                end.send(told).unwrap();
            } else {
                drop(end);
            }
            drop(frames);
            let mut answer = Answer::new(received, ended);
            assert!(answer.frame().await.unwrap().is_ok());
            assert_eq!(answer.frame().await.is_none(), is_whole);
            assert!(answer.frame().await.is_none());
        }
    }
}
