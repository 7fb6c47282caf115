//! The data port, seen from real sockets.

mod harness;
mod http1;
mod http2;
mod lifecycle;
mod smuggling;
mod tls;
