//! See `fuzz::ipc_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::ipc_messages(data));
