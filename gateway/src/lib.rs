//! Stile: an HTTP API gateway whose plugins are WebAssembly components.
//!
//! `ARCHITECTURE.md` beside this folder is the map.

pub mod cli;
pub mod message;
pub mod model;
pub mod spec;
