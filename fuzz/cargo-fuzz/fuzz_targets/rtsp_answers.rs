//! See `fuzz::rtsp_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtsp_answers(data));
