//! See `fuzz::sdp_fragments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::sdp_fragments(data));
