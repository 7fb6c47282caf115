//! What outlives a request. Today the values of plugins, in memory.

pub mod kv;
