//! `cargo +nightly fuzz run tokenizer --features libfuzzer`: the first byte says which body.
#![no_main]

use apr_fuzz::tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    match first % 2 {
        0 => tokenizer::file(rest),
        _ => tokenizer::codes(rest),
    }
});
