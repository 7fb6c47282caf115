//! Stile: an HTTP API gateway whose plugins are WebAssembly components.
//!
//! `ARCHITECTURE.md` beside this folder is the map.

pub mod admin;
pub mod analytics;
pub mod app;
pub mod cli;
pub mod clock;
pub mod fetch;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod live;
pub mod message;
pub mod model;
pub mod net;
pub mod pipeline;
pub mod plugin;
#[cfg(test)]
pub mod random;
pub mod router;
pub mod server;
pub mod spec;
pub mod store;
pub mod telemetry;
pub mod tyk;
pub mod upstream;
