//! Stile: an HTTP API gateway whose plugins are WebAssembly components.
//!
//! `ARCHITECTURE.md` beside this folder is the map.

pub mod clock;
pub mod message;
pub mod model;
pub mod plugin;
pub mod store;
pub mod telemetry;
pub mod upstream;
