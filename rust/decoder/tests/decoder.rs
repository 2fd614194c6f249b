//! Requests end to end on tiny random models.

mod common;

use apr_decoder::{CacheType, ComputeType, Decoder, Error, FinishReason, Options, Request};
use common::*;
use proptest::prelude::*;

#[test]
fn a_request_does_not_see_its_batch_mates() {
    let requests: Vec<Request> = (0..20)
        .map(|id| {
            // Some share a prefix, some are long enough to be prefilled over several tasks.
            let mut tokens = prompt(5 + 4 * id as usize, id as u32 / 3);
            tokens.push(id as u32);
            match id % 2 {
                0 => greedy(id, tokens, 30),
                _ => warm(id, tokens, 30, id),
            }
        })
        .collect();
    let directory = write_model(&Shape { brain: true, ..SMALL });
    for (cache_type, compute_type) in [
        (CacheType::Int8, ComputeType::Float32),
        (CacheType::Int8, ComputeType::Bfloat16),
        (CacheType::Bfloat16, ComputeType::Float32),
        (CacheType::Bfloat16, ComputeType::Bfloat16),
        (CacheType::Float32, ComputeType::Float32),
    ] {
        let options = Options { cache_type, compute_type, ..options() };
        let open = |options: &Options| Decoder::open(directory.path(), options).unwrap();
        let alone = |request: &Request| run(&mut open(&options), [request.clone()]).remove(&request.id).unwrap();
        let alone: Vec<Outcome> = requests.iter().map(alone).collect();
        for (threads, max_batch) in [(1, 64), (2, 64), (3, 5)] {
            let options = Options { threads, max_batch, ..options.clone() };
            let together = run(&mut open(&options), requests.clone());
            for (request, alone) in requests.iter().zip(&alone) {
                let together = &together[&request.id];
                assert_eq!(together.tokens, alone.tokens);
                // Bits, not closeness.
                assert_eq!(together.logprobs, alone.logprobs);
            }
        }
    }
}

#[test]
fn a_smaller_cache_is_nearly_as_exact() {
    let directory = write_model(&SMALL);
    let requests: Vec<Request> = (0..20).map(|id| greedy(id, prompt(50, id as u32), 1)).collect();
    let outcomes = |cache_type| {
        // Nine full contexts of the wider kind.
        let options = Options { cache_type, cache_bytes: Some(9 * 129 * 2 * 2 * (12 + 16) * 4), ..options() };
        let mut decoder = Decoder::open(directory.path(), &options).unwrap();
        (run(&mut decoder, requests.clone()), decoder.stats().pages)
    };
    let (exact, few) = outcomes(CacheType::Float32);
    for (cache_type, (part, whole)) in [(CacheType::Bfloat16, (1, 2)), (CacheType::Int8, (9, 28))] {
        let (rounded, many) = outcomes(cache_type);
        assert_eq!(many * part / whole, few);
        let gap = |id| (exact[&id].logprobs[0] - rounded[&id].logprobs[0]).abs();
        let gaps: Vec<f32> = (0..20).filter(|id| exact[id].tokens == rounded[id].tokens).map(gap).collect();
        assert!(gaps.len() >= 18 && gaps.iter().all(|gap| *gap < 0.05), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap > 0.0), "nothing was rounded");
    }
}

#[test]
fn unless_it_is_told_the_cache_holds_a_context_and_is_no_larger_than_its_bound() {
    let directory = write_model(&SMALL);
    let options = Options { cache_bytes: None, ..options() };
    let pages = Decoder::open(directory.path(), &options).unwrap().stats().pages;
    assert!(pages > SMALL.context / 16 && pages * 16 * 2 * 2 * (12 + 16) * 4 <= 1 << 30);
}

#[test]
fn seeds_decide_and_repeat() {
    let mut decoder = open(&SMALL);
    let requests = (0..8).map(|id| warm(id, prompt(9, 1), 40, id / 2));
    let outcomes = run(&mut decoder, requests);
    for pair in 0..4 {
        assert_eq!(outcomes[&(2 * pair)].tokens, outcomes[&(2 * pair + 1)].tokens);
    }
    assert_ne!(outcomes[&0].tokens, outcomes[&2].tokens);
}

#[test]
fn logprobs_are_those_of_a_distribution() {
    // Over many seeds each token comes about as often as its log-probability says.
    let mut decoder = open(&SMALL);
    let outcomes = run(&mut decoder, (0..4000).map(|id| warm(id, prompt(3, 2), 1, id)));
    let mut counts = std::collections::BTreeMap::new();
    for outcome in outcomes.values() {
        let entry = counts.entry(outcome.tokens[0]).or_insert((0, outcome.logprobs[0]));
        entry.0 += 1;
        assert_eq!(entry.1, outcome.logprobs[0]);
    }
    for (count, logprob) in counts.values() {
        let expected = 4000.0 * f64::from(*logprob).exp();
        assert!((f64::from(*count) - expected).abs() < 6.0 * expected.sqrt() + 6.0);
    }
}

#[test]
fn requests_end_where_they_should() {
    let mut decoder = open(&SMALL);
    let free = run(&mut decoder, [greedy(0, prompt(10, 3), 20)]).remove(&0).unwrap();
    assert_eq!((free.tokens.len(), free.finished), (20, FinishReason::Length));

    let stop = free.tokens[7];
    let first = free.tokens.iter().position(|token| *token == stop).unwrap();
    let stopped = Request { stop_tokens: vec![60, stop], ..greedy(1, prompt(10, 3), 20) };
    let stopped = run(&mut decoder, [stopped]).remove(&1).unwrap();
    assert_eq!(stopped.finished, FinishReason::Stop);
    assert_eq!(stopped.tokens, free.tokens[..=first]);

    let unlimited = Request { max_tokens: None, ..warm(2, prompt(10, 3), 0, 5) };
    let beyond = Request { max_tokens: Some(1000), ..unlimited.clone() };
    let full = Request { prompt: prompt(SMALL.context, 3), ..unlimited.clone() };
    let none = Request { max_tokens: Some(0), ..unlimited.clone() };
    let last = Request { prompt: prompt(SMALL.context - 1, 3), ..unlimited.clone() };
    let cases = [(unlimited, 118), (beyond, 118), (full, 0), (none, 0), (last, 1)];
    for (request, expected) in cases {
        let outcome = run(&mut decoder, [request]).remove(&2).unwrap();
        assert_eq!((outcome.tokens.len(), outcome.finished), (expected, FinishReason::Length));
    }
}

#[test]
fn bad_requests_are_refused_and_harm_nobody() {
    let mut decoder = open(&SMALL);
    decoder.submit(greedy(0, prompt(10, 3), 5)).unwrap();
    let good = || greedy(1, prompt(4, 1), 5);
    for bad in [
        greedy(1, vec![], 5),
        greedy(1, vec![61], 5),
        greedy(1, prompt(SMALL.context + 1, 0), 5),
        greedy(0, prompt(4, 1), 5),
        Request { temperature: f32::NAN, ..good() },
        Request { temperature: -1.0, ..good() },
        Request { temperature: 1e-30, ..good() },
    ] {
        assert!(matches!(decoder.submit(bad), Err(Error::Request { .. })));
    }
    decoder.submit(good()).unwrap();
    assert_eq!(finish(&mut decoder).len(), 2);
}

#[test]
fn abort_ends_waiting_and_running_requests() {
    let options = Options { max_batch: 2, ..options() };
    let mut decoder = Decoder::open(write_model(&SMALL).path(), &options).unwrap();
    for id in 0..4 {
        decoder.submit(greedy(id, prompt(20, id as u32), 50)).unwrap();
    }
    decoder.step();
    decoder.step();
    assert!(decoder.abort(0) && decoder.abort(3) && !decoder.abort(9) && !decoder.abort(0));
    let outcomes = finish(&mut decoder);
    assert_eq!(outcomes[&0].finished, FinishReason::Abort);
    assert_eq!(outcomes[&3].finished, FinishReason::Abort);
    assert_eq!((outcomes[&1].tokens.len() + 2, outcomes[&2].tokens.len()), (50, 50));
}

#[test]
fn whatever_was_computed_is_reused() {
    let mut decoder = open(&SMALL);
    let parent = run(&mut decoder, [greedy(0, prompt(37, 1), 20)]).remove(&0).unwrap();
    assert_eq!(parent.cached_tokens, 0);
    // The last sampled token was never fed.
    let known = 37 + 20 - 1;
    let mut trunk = prompt(37, 1);
    trunk.extend(&parent.tokens);
    let continued = run(&mut decoder, [greedy(1, [trunk.clone(), vec![5, 6]].concat(), 3)]);
    assert_eq!(continued[&1].cached_tokens, known);
    // Forks inside a page, all at once: the branch point is shared to the token.
    let forks = (0..8).map(|id| greedy(id, [&trunk[..43], &[(id as u32 + trunk[43] + 1) % 61]].concat(), 4));
    for outcome in run(&mut decoder, forks).values() {
        assert_eq!(outcome.cached_tokens, 43);
    }
    // The whole prompt again: its last token is computed for its logits.
    let again = run(&mut decoder, [greedy(2, prompt(37, 1), 20)]).remove(&2).unwrap();
    assert_eq!((again.cached_tokens, again.tokens), (36, parent.tokens));
}

#[test]
fn requests_that_arrive_together_share_their_prompt() {
    let mut decoder = open(&SMALL);
    let common = prompt(45, 4);
    let requests = (0..10).map(|id| greedy(id, [&common[..], &[id as u32]].concat(), 5));
    let together = run(&mut decoder, requests.clone());
    let cached: Vec<usize> = together.values().map(|outcome| outcome.cached_tokens).collect();
    assert_eq!(cached[0], 0);
    assert!(cached[1..].iter().all(|cached| *cached == 45), "{cached:?}");
    for request in requests {
        let alone = run(&mut open(&SMALL), [request.clone()]).remove(&request.id).unwrap();
        assert_eq!(alone.tokens, together[&request.id].tokens);
        assert_eq!(alone.logprobs, together[&request.id].logprobs);
    }
}

#[test]
fn a_page_is_shared_up_to_any_token() {
    let directory = write_model(&SMALL);
    for (cache_type, compute_type) in [
        (CacheType::Int8, ComputeType::Float32),
        (CacheType::Int8, ComputeType::Bfloat16),
        (CacheType::Bfloat16, ComputeType::Bfloat16),
        (CacheType::Float32, ComputeType::Float32),
    ] {
        let open = || Decoder::open(directory.path(), &Options { cache_type, compute_type, ..options() }).unwrap();
        for shared in 30..50 {
            let mut decoder = open();
            let trunk = prompt(60, 4);
            run(&mut decoder, [greedy(0, trunk.clone(), 1)]);
            let fork = greedy(1, [&trunk[..shared], &[(trunk[shared] + 1) % 61, 7, 8]].concat(), 5);
            let forked = run(&mut decoder, [fork.clone()]).remove(&1).unwrap();
            assert_eq!(forked.cached_tokens, shared);
            let fresh = run(&mut open(), [fork]).remove(&1).unwrap();
            assert_eq!((forked.tokens, forked.logprobs), (fresh.tokens, fresh.logprobs));
        }
    }
}

#[test]
fn a_prompt_longer_than_a_step_is_shared_too() {
    let shape = Shape { context: 1024, ..SMALL };
    let options = Options { cache_bytes: Some(8 << 20), ..options() };
    let mut decoder = Decoder::open(write_model(&shape).path(), &options).unwrap();
    let common = prompt(700, 4);
    let requests = (0..4).map(|id| greedy(id, [&common[..], &[id as u32]].concat(), 5));
    let outcomes = run(&mut decoder, requests);
    assert!((1..4).all(|id| outcomes[&id].cached_tokens == 700));
}

#[test]
fn a_running_request_shares_what_it_has() {
    let mut decoder = open(&SMALL);
    decoder.submit(greedy(0, prompt(20, 2), 60)).unwrap();
    let mut tokens = prompt(20, 2);
    for _ in 0..23 {
        tokens.extend(decoder.step().into_iter().flat_map(|update| update.tokens));
    }
    decoder.submit(greedy(1, [&tokens[..], &[3]].concat(), 4)).unwrap();
    assert_eq!(finish(&mut decoder)[&1].cached_tokens, tokens.len());
}

#[test]
fn little_memory_slows_but_does_not_change_results() {
    let directory = write_model(&SMALL);
    let requests: Vec<Request> = (0..12).map(|id| warm(id, prompt(30 + id as usize, id as u32 % 4), 60, id)).collect();
    let plenty = run(&mut open(&SMALL), requests.clone());
    // One context of 128 tokens and a page: 9 pages of 16 tokens, 2 layers, 24 floats of keys and 32 of values.
    let least = 9 * 16 * 2 * 2 * (12 + 16) * 4;
    let refused = Options { cache_bytes: Some(least - 1), ..options() };
    assert!(matches!(Decoder::open(directory.path(), &refused), Err(Error::Option { .. })));
    let tight = Options { cache_bytes: Some(least), ..options() };
    let mut decoder = Decoder::open(directory.path(), &tight).unwrap();
    let scarce = run(&mut decoder, requests);
    assert!(decoder.stats().preemptions > 0);
    for (id, outcome) in &plenty {
        assert_eq!(outcome.tokens, scarce[id].tokens);
        assert_eq!(outcome.logprobs, scarce[id].logprobs);
    }
    decoder.update_weights(&state(&SMALL)).unwrap();
    assert_eq!(decoder.stats().used_pages, 0, "a page was leaked");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mixture of arrivals, aborts and steps, in little memory: nobody is lost, nothing leaks, and whoever
    /// finishes has the tokens that a request alone gets.
    #[test]
    fn any_order_of_events_is_survived(
        events in prop::collection::vec((0_u8..8, 0_u64..30, 1_usize..90, 0_u32..3, 0_usize..50), 1..60)
    ) {
        let directory = write_model(&SMALL);
        let least = 14 * 16 * 2 * 2 * (12 + 16) * 4;
        let tight = Options { cache_bytes: Some(least), threads: 1, max_batch: 6, ..options() };
        let mut decoder = Decoder::open(directory.path(), &tight).unwrap();
        let mut requests = std::collections::BTreeMap::new();
        let mut sampled: std::collections::BTreeMap<u64, Vec<u32>> = std::collections::BTreeMap::new();
        let mut ended = std::collections::BTreeMap::new();
        let mut step = |decoder: &mut Decoder| {
            for update in decoder.step() {
                sampled.entry(update.id).or_default().extend(update.tokens);
                if let Some(reason) = update.finished {
                    ended.insert(update.id, reason);
                }
            }
        };
        for (kind, id, len, salt, max_tokens) in events {
            match kind {
                0..=2 => {
                    let request = warm(requests.len() as u64, prompt(len, salt), max_tokens, id);
                    decoder.submit(request.clone()).unwrap();
                    requests.insert(request.id, request);
                }
                3 => {
                    decoder.abort(id);
                }
                _ => step(&mut decoder),
            }
        }
        while decoder.has_work() {
            step(&mut decoder);
        }
        prop_assert_eq!(ended.len(), requests.len());
        let mut alone = Decoder::open(directory.path(), &options()).unwrap();
        for (id, request) in requests {
            let expected = run(&mut alone, [request]).remove(&id).unwrap();
            let got = sampled.remove(&id).unwrap_or_default();
            if ended[&id] == FinishReason::Abort {
                prop_assert_eq!(&got[..], &expected.tokens[..got.len()]);
            } else {
                prop_assert_eq!(got, expected.tokens);
            }
        }
        decoder.update_weights(&state(&SMALL)).unwrap();
        prop_assert_eq!(decoder.stats().used_pages, 0);
    }
}
