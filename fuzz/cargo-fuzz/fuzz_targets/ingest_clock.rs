//! See `fuzz::ingest_clock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::ingest_clock(data));
