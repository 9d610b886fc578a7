//! See `fuzz::dtls_handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dtls_handshake(data));
