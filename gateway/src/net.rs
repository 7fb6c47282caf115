//! What lies between the gateway and a caller's machine: listening sockets, certificates, who the caller is.

pub mod client;
pub mod listen;
pub mod tls;
