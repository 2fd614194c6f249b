//! Whose turn it is.

use super::*;

fn asked(scheduler: &mut Scheduler, id: u64, prompt: usize, new: usize) {
    let prompt = vec![id as u32; prompt];
    let stop_tokens = Vec::new();
    let request = Request { id, prompt, temperature: 0.0, max_tokens: Some(new), stop_tokens, seed: 0 };
    scheduler.submit(request, 1000);
}

/// Who gets a token in the next step.
fn step(scheduler: &mut Scheduler) -> Vec<u64> {
    scheduler.plan();
    let sampled = vec![Some(Sampled { token: 1, logprob: 0.0 }); scheduler.sampling.len()];
    scheduler.commit(&sampled).iter().map(|update| update.id).collect()
}

#[test]
fn who_waits_for_a_turn_is_not_passed_over_by_those_that_come_later() {
    let mut scheduler = Scheduler::new(1000, 64, 256, (4, 1));
    (0..4).for_each(|id| asked(&mut scheduler, id, 20, 900));
    let mut written = [0; 4];
    let mut next = 4;
    for _ in 0..40 * TURN {
        // Newcomers that are done within a turn.
        while scheduler.open() < 24 {
            asked(&mut scheduler, next, 20, 10);
            next += 1;
        }
        for id in step(&mut scheduler) {
            if let Some(tokens) = written.get_mut(id as usize) {
                *tokens += 1;
            }
        }
    }
    // Two places a step, for as many: 107 each.
    assert!(written.iter().all(|tokens| *tokens > 100), "{written:?}");
}

#[test]
fn there_are_no_turns_where_they_would_read_more() {
    for (near, weights, at_once) in [(0, 1, 16), (2, 100, 16), (100, 100, 16), (2, 1, 1)] {
        let mut scheduler = Scheduler::new(1000, 64, 1024, (near, weights));
        (0..16).for_each(|id| asked(&mut scheduler, id, 20, 100));
        while scheduler.running.iter().any(|sequence| sequence.left() != 1) || scheduler.running.is_empty() {
            step(&mut scheduler);
        }
        assert_eq!(step(&mut scheduler).len(), at_once, "{near} pages beside {weights}");
    }
}

#[test]
fn sequences_that_do_not_fit_the_near_pages_decode_in_turns() {
    let mut scheduler = Scheduler::new(1000, 64, 256, (40, 10));
    (0..24).for_each(|id| asked(&mut scheduler, id, 8, 200));
    let mut written = [0_u64; 24];
    let mut fewest = usize::MAX;
    while scheduler.open() > 0 {
        let batch = scheduler.plan();
        fewest = fewest.min(batch.rows.len());
        let sampled = vec![Some(Sampled { token: 1, logprob: 0.0 }); 24];
        for update in scheduler.commit(&sampled) {
            written[update.id as usize] += update.tokens.len() as u64;
        }
        let [least, most] = [written.iter().min(), written.iter().max()].map(Option::unwrap);
        // A turn, and what was lost of turns that shrank as pages grew.
        assert!(most - least < 3 * TURN, "{least} and {most} tokens");
    }
    assert!(fewest < 24, "no turns were taken");
    assert_eq!(written, [200; 24]);
}
