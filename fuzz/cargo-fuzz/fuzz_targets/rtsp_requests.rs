//! See `fuzz::rtsp_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtsp_requests(data));
