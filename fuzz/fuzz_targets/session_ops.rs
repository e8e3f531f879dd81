#![no_main]

#[path = "../../crates/ganger-proto/tests/fuzz/session_ops.rs"]
mod session_ops;

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_ops::check(data));
