//! A request's body on its way to an upstream, with what the sender must know about it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::message::body::{Body, BodyError};

/// What is known of a streamed body while hyper sends it.
#[derive(Debug)]
pub(super) struct Upload {
    body: RefCell<Body>,
    touched: Cell<bool>,
    done: Cell<bool>,
    /// The sender waits for the caller's bytes, not for the upstream.
    waits_for_caller: Cell<bool>,
    moved: Cell<Instant>,
    error: RefCell<Option<BodyError>>,
}

/// The body that hyper holds.
#[derive(Debug)]
struct Tracked(Rc<Upload>);

impl Upload {
    /// Puts an [`Upload`] around a body that is streamed; one that is known as a whole needs none.
    pub(super) fn track(request: &mut Request<Body>) -> Option<Rc<Self>> {
        let body = request.body_mut();
        if body.is_end_stream() || matches!(body, Body::Full(_)) {
            return None;
        }
        let upload = Rc::new(Self {
            body: RefCell::new(std::mem::take(body)),
            touched: Cell::new(false),
            done: Cell::new(false),
            waits_for_caller: Cell::new(false),
            moved: Cell::new(Instant::now()),
            error: RefCell::new(None),
        });
        *body = Body::wrap(Tracked(Rc::clone(&upload)));
        Some(upload)
    }

    /// Whether every byte was handed over.
    pub(super) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Since when the upstream lets us wait; `None` while the caller does.
    pub(super) fn upstream_owes_since(&self) -> Option<Instant> {
        if self.waits_for_caller.get() && !self.done.get() { None } else { Some(self.moved.get()) }
    }

    /// What went wrong with the body, once.
    pub(super) fn error(&self) -> Option<BodyError> {
        self.error.take()
    }

    fn end(&self) {
        self.done.set(true);
        self.moved.set(Instant::now());
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let upload = &*self.0;
        upload.touched.set(true);
        let mut body = upload.body.borrow_mut();
        let frame = Pin::new(&mut *body).poll_frame(cx);
        upload.waits_for_caller.set(frame.is_pending());
        match frame {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if body.is_end_stream() || frame.is_trailers() {
                    upload.end();
                } else {
                    upload.moved.set(Instant::now());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // hyper would hide the error in its own; here it stays whole for whoever picks a status code.
                upload.error.replace(Some(error));
                upload.end();
                Poll::Ready(Some(Err(BodyError::Timeout)))
            }
            Poll::Ready(None) => {
                upload.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.borrow().size_hint()
    }
}

/// What is kept of a request so that it can be sent once more.
#[derive(Debug)]
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Spare {
    /// `None` for a request that must not be repeated.
    pub(super) fn of(request: &Request<Body>) -> Option<Self> {
        request.method().is_idempotent().then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            body: match request.body() {
                Body::Full(bytes) => Some(bytes.clone()),
                _ => None,
            },
        })
    }

    /// The request again; `None` when its body is gone.
    pub(super) fn request(self, upload: Option<&Rc<Upload>>) -> Option<Request<Body>> {
        let body = match upload {
            None => self.body.map_or(Body::Empty, Body::Full),
            Some(upload) if !upload.touched.get() => Body::wrap(Tracked(Rc::clone(upload))),
            Some(_) => return None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        Some(request)
    }
}
