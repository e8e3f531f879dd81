#![no_main]

#[path = "../../crates/ganger-proto/tests/fuzz/v8.rs"]
mod v8;

libfuzzer_sys::fuzz_target!(|data: &[u8]| v8::check(data));
