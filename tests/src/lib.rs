//! The harness of the end-to-end tests: a gateway in process, an upstream that remembers, and callers.
//!
//! ```ignore
//! let upstream = Upstream::start();
//! let gateway = Gateway::with(api("orders").upstream(&upstream).pre("hello")).start().await;
//!
//! let reply = gateway.get("/orders/1").send().await;
//!
//! assert_eq!(reply.status(), 200);
//! ```
//!
//! Everything panics with a reason when it fails: a test has nothing better to do.

mod call;
mod child;
pub mod components;
pub mod corpus;
mod definition;
mod folder;
mod gateway;
mod guests;
mod keys;
mod line;
mod memory;
mod page;
mod raw;
mod redis;
mod registry;
mod reply;
mod tls;
mod upstream;

pub use call::Call;
pub use child::log_of;
pub use definition::{Api, Use, api, plugin};
pub use folder::Folder;
pub use gateway::{Builder, Gateway};
pub use guests::{compiler, guest, workspace};
pub use keys::SigningKey;
pub use line::Line;
pub use memory::resident_kib;
pub use page::Page;
pub use raw::{Raw, RawUpstream};
pub use redis::Redis;
pub use registry::{ACCOUNT, Registry, basic};
pub use reply::Reply;
pub use tls::SelfSigned;
pub use upstream::{Answer, Seen, Upstream};
