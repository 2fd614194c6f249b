//! `cargo +nightly fuzz run checkpoint --features libfuzzer`: the first byte says which body.
#![no_main]

use apr_fuzz::checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    match first % 3 {
        0 => checkpoint::config(rest),
        1 => checkpoint::weights(rest),
        _ => checkpoint::index(rest),
    }
});
