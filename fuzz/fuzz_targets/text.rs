//! `cargo +nightly fuzz run text --features libfuzzer`: the first byte says which body.
#![no_main]

use apr_fuzz::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    match first % 5 {
        0 => text::grammar(rest),
        1 => text::verdicts(rest),
        2 => text::inspection(rest),
        3 => text::states(rest),
        _ => text::claims(rest),
    }
});
