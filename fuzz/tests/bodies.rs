//! Every body on random bytes, for half a second each or for as many as `APR_FUZZ_SECONDS` says.

use std::time::{Duration, Instant};

use apr_fuzz::{checkpoint, text, tokenizer};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};

fn drive(body: fn(&[u8])) {
    let seconds = std::env::var("APR_FUZZ_SECONDS").map_or(0.5, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    loop {
        let result = runner.run(&vec(any::<u8>(), 0..400), |bytes| {
            body(&bytes);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        if Instant::now() >= end {
            return;
        }
    }
}

macro_rules! bodies {
    ($($name:ident: $body:path,)*) => {
        $(#[test]
        fn $name() {
            drive($body);
        })*
    };
}

bodies! {
    grammar: text::grammar,
    verdicts: text::verdicts,
    inspection: text::inspection,
    states: text::states,
    claims: text::claims,
    tokenizer_file: tokenizer::file,
    tokenizer_codes: tokenizer::codes,
    config: checkpoint::config,
    weights: checkpoint::weights,
    index: checkpoint::index,
}
