//! The values that the whole gateway speaks of: ids, APIs, plugins, sessions, records, paths.
//!
//! Values only. Nothing here does I/O, knows a clock, or a shape of somebody else's (Tyk JSON, WIT, Redis).

pub mod account;
pub mod address;
pub mod api;
pub mod digest;
pub mod edit_rules;
pub mod extractor;
pub mod gateway;
pub mod id;
pub mod key;
pub mod limit;
pub mod outgoing;
pub mod path;
pub mod pattern;
pub mod plugin;
pub mod policy;
pub mod provenance;
pub mod record;
pub mod secret;
pub mod session;
pub mod source;
pub mod store;
pub mod time;
pub mod version;
pub mod xpath;
