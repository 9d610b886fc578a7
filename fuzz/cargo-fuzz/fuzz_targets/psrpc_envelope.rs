//! See `fuzz::psrpc_envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::psrpc_envelope(data));
