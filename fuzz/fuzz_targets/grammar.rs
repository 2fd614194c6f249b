//! Bytes as model text through every function that reads text: `cargo +nightly fuzz run grammar`.
#![no_main]

use apr_countdown::check::{check_claim, check_solution, check_trace};
use apr_countdown::trace::read::{
    ChildHead, ChildOutcome, Line, child_prompts, is_spawn, join, search_result,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let heads = [
        ChildHead::Bare,
        ChildHead::SharedBudget(513),
        ChildHead::Inherited,
    ];
    let prompts = heads.map(|head| child_prompts(text, head));
    let outcomes = [ChildOutcome::Finished(text), ChildOutcome::Cancelled];
    for outcomes in [&outcomes[..0], &outcomes[..1], &outcomes] {
        let joined = join(text, outcomes, 1);
        let spawned = prompts[0]
            .as_ref()
            .is_ok_and(|prompts| prompts.len() >= outcomes.len());
        assert!(joined.is_ok() || !spawned);
        assert!(joined.is_err() || is_spawn(text));
    }
    assert!(text.split('\n').filter_map(Line::parse).count() <= bytes.len() + 1);
    let result = search_result(text);
    let prompt = prompts
        .into_iter()
        .flatten()
        .flatten()
        .next()
        .unwrap_or_default();
    for prompt in [text, &prompt] {
        assert!(!check_claim(prompt, text).correct || result.is_some());
        check_solution(prompt, text);
    }
    assert!(!check_trace(text).correct || result.is_some());
});
