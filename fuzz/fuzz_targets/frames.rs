#![no_main]

#[path = "../../crates/ganger-proto/tests/fuzz/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::check(data));
