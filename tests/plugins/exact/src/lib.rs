//! Does one thing exactly so often, or exactly so large, as the configuration says: just below a limit, or just above.
//!
//! It answers with what became of it: `done`, or the first error that a call into the gateway gave.

use std::hash::RandomState;
use std::hint::black_box;
use std::time::Duration;

use stile_sdk::prelude::*;

#[config]
#[derive(Clone, Copy)]
enum What {
    /// Goes round a loop.
    Fuel,
    /// Waits, in milliseconds.
    Wait,
    /// Takes memory, in bytes.
    Memory,
    /// Calls the gateway.
    HostCalls,
    /// Hands the gateway bytes, key and value.
    HostCallBytes,
    /// Takes what a hash map takes of randomness, which is sixteen bytes.
    Random,
    /// Writes lines.
    LogLines,
    /// Writes one line, in bytes.
    LogBytes,
    /// Answers with a body, in bytes.
    BodyOut,
    /// Answers with header fields.
    HeaderCount,
    /// Answers with one header field, in bytes of name and value.
    HeaderBytes,
    /// Keeps values, an empty one each.
    KvKeys,
    /// Keeps a value under a key, in bytes of the key.
    KvKeyBytes,
    /// Keeps a value, in bytes.
    KvValueBytes,
}

#[config]
#[derive(Clone, Copy)]
struct Exact {
    what: What,
    count: usize,
}

#[plugin(config = Self, capabilities(log = "to fill it", kv = "to fill it"))]
impl Exact {
    /// Waits with each record.
    #[analytics(name = "exact")]
    fn recorded(&self, _record: &mut Record) {
        if matches!(self.what, What::Wait) {
            std::thread::sleep(Duration::from_millis(self.count.try_into().unwrap_or(u64::MAX)));
        }
    }

    #[pre]
    fn exact(&self) -> Action {
        let Self { what, count } = *self;
        let mut reply = Reply::new(200);
        let mut became = Ok(());
        match what {
            What::Fuel => (0..count).for_each(|round| _ = black_box(round)),
            What::Wait => std::thread::sleep(Duration::from_millis(count.try_into().unwrap_or(u64::MAX))),
            What::Memory => drop(black_box(vec![1_u8; count])),
            What::HostCalls => became = (0..count).try_for_each(|_| kv::get("a").map(drop)),
            What::HostCallBytes => became = kv::set("a", &vec![0; count - 1], None),
            What::Random => drop(black_box(RandomState::new())),
            What::LogLines => (0..count).for_each(|_| log::info("a line")),
            What::LogBytes => log::info("a".repeat(count).as_str()),
            What::BodyOut => reply = reply.body(vec![b'x'; count]),
            What::HeaderCount => reply = (0..count).fold(reply, |reply, _| reply.header("x-one", "1")),
            What::HeaderBytes => reply = reply.header("x", "a".repeat(count - 1)),
            What::KvKeys => became = (0..count).try_for_each(|key| kv::set(&key.to_string(), &[], None)),
            What::KvKeyBytes => became = kv::set(&"k".repeat(count), &[], None),
            What::KvValueBytes => became = kv::set("a", &vec![0; count], None),
        }
        match became {
            Ok(()) if matches!(what, What::BodyOut) => reply.into(),
            Ok(()) => reply.body("done").into(),
            Err(error) => Reply::new(200).body(format!("{error:?}")).into(),
        }
    }
}
