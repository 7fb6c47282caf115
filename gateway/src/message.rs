//! HTTP messages as the gateway handles them: bodies, header fields of the connection, content codings.
//!
//! What is true of every message, whoever sent it. No sockets, no plugins.

pub mod body;
pub mod coding;
pub mod collect;
pub mod hop;
