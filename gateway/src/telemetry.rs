//! What the gateway tells about itself: log lines, metrics, and strangers' text made safe to show.

pub mod flood;
pub mod histogram;
pub mod log;
pub mod metrics;
pub mod text;
