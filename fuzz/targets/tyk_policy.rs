#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stile::fuzzing::tyk_policy(bytes));
