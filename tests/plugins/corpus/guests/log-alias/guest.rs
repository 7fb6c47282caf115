//! Hands the log five gigabytes in fields that are all the same megabyte.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use std::mem::ManuallyDrop;

use stile_sdk::bindings::base::stile::plugin::log::log;
use stile_sdk::prelude::*;

struct Alias;

#[plugin(capabilities(log = "to flood it"))]
impl Alias {
    #[pre]
    fn attack() {
        let megabyte = ManuallyDrop::new("a".repeat(1 << 20));
        // SAFETY: none. They are never freed, and nobody in the guest looks at them.
        let alias = || unsafe { String::from_raw_parts(megabyte.as_ptr().cast_mut(), megabyte.len(), megabyte.len()) };
        let fields = ManuallyDrop::new((0..5_000).map(|_| (String::new(), alias())).collect::<Vec<_>>());
        log(log::Level::Info, "", &fields);
    }
}
