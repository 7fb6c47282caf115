//! Values that claim to be what they are not. They are made to be handed to the host, which has to see through them;
//! the guest never looks at them, and never frees them: the host refuses the call before.

#![allow(unsafe_code, reason = "a stranger's plugin may do this, so ours for tests has to")]

use std::mem::ManuallyDrop;

/// A gigabyte that is not there: the memory of the guest ends long before.
pub(crate) fn giant() -> Vec<u8> {
    const LENGTH: usize = 1 << 30;
    // SAFETY: none. Nobody in the guest reads or frees it.
    unsafe { Vec::from_raw_parts(std::ptr::without_provenance_mut(1024), LENGTH, LENGTH) }
}

/// Five gigabytes in values of one megabyte, which are all the same one.
pub(crate) fn aliases(mut each: impl FnMut(Vec<u8>)) {
    let megabyte = ManuallyDrop::new(vec![b'a'; 1 << 20]);
    for _ in 0..5_000 {
        // SAFETY: none. Nobody in the guest reads or frees it.
        each(unsafe { Vec::from_raw_parts(megabyte.as_ptr().cast_mut(), megabyte.len(), megabyte.len()) });
    }
}

/// A text that is not UTF-8.
pub(crate) fn text() -> String {
    // SAFETY: none.
    unsafe { String::from_utf8_unchecked(vec![b'/', 0xff, 0xfe]) }
}
