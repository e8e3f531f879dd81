#![no_main]

#[path = "../../crates/ganger-proto/tests/fuzz/json_frames.rs"]
mod json_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| json_frames::check(data));
