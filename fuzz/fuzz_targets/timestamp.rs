#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| message_webhook::fuzzing::timestamp(data));
