//! Text as a model might write it, through every function that reads text.

use apr_countdown::check::{check_claim, check_solution, check_trace};
use apr_countdown::inspect::{choices, faults, first_state, first_width, inspect};
use apr_countdown::trace::PHRASES;
use apr_countdown::trace::read::{
    ChildHead, ChildOutcome, Line, child_prompts, claimed_steps, is_spawn, join, prompt_budget, search_result,
    spawn_requests,
};

use crate::choices::Choices;

const PIECES: [&str; 26] = [
    "\n",
    "\n\n",
    " ",
    ", ",
    ",",
    ":",
    "[",
    "]",
    "[]",
    "#",
    "=",
    "0",
    "7",
    "12",
    "27",
    "22+5=27",
    "99-1=97",
    "*",
    "0*5=0",
    "5-0=5",
    "1*1=1",
    "13*60=780",
    "780-780=0",
    "184467440737095516160",
    "-3",
    "\u{e9}",
];

/// Phrases of the grammar, numbers and noise in any order; or the bytes as they are.
fn written(bytes: &[u8]) -> String {
    let mut choices = Choices::new(bytes);
    if choices.byte().is_multiple_of(8) {
        return String::from_utf8_lossy(choices.rest()).into_owned();
    }
    let mut text = String::new();
    while !choices.is_empty() {
        match choices.byte() {
            0..=99 => text.push_str(choices.one(&PHRASES)),
            100..=239 => text.push_str(choices.one(&PIECES)),
            240..=247 => text.push(char::from(choices.byte())),
            _ => text.extend(text.clone().chars().take(200)),
        }
    }
    text
}

/// Spawns, joins, lines and results.
pub fn grammar(bytes: &[u8]) {
    let text = &*written(bytes);
    let heads = [ChildHead::Bare, ChildHead::SharedBudget(513), ChildHead::Inherited];
    let prompts = heads.map(|head| child_prompts(text, head));
    let outcomes = [ChildOutcome::Finished(text), ChildOutcome::Cancelled];
    for outcomes in [&outcomes[..0], &outcomes[..1], &outcomes] {
        let joined = join(text, outcomes, 1);
        let spawned = prompts[0].as_ref().is_ok_and(|prompts| prompts.len() >= outcomes.len());
        assert!(joined.is_ok() || !spawned);
        assert!(joined.is_err() || is_spawn(text));
    }
    let nodes = spawn_requests(text).map_or(0, |nodes| nodes.len());
    assert!(nodes <= text.len());
    assert!(text.split('\n').filter_map(Line::parse).count() <= text.len() + 1);
    assert!(search_result(text).is_none_or(|result| text.contains(result)));
    prompt_budget(text);
}

/// Verdicts: what is correct claims a result, and a correct claim is judged so again.
pub fn verdicts(bytes: &[u8]) {
    let text = &*written(bytes);
    let result = search_result(text);
    let prompts = child_prompts(text, ChildHead::Bare).unwrap_or_default();
    for prompt in prompts.iter().take(1).map(String::as_str).chain([text]) {
        let claimed = result.is_some_and(|result| check_solution(prompt, result).correct);
        assert_eq!(check_claim(prompt, text).correct, claimed);
    }
    assert!(!check_trace(text).correct || result.is_some());
}

/// Counts are parts of their wholes.
pub fn inspection(bytes: &[u8]) {
    let text = &*written(bytes);
    let found = inspect(text);
    for part in [found.wrong_results, found.invented_numbers, found.repeated_steps] {
        assert!(part <= found.steps);
    }
    assert!(found.wrong_states <= found.states && found.wrong_verdicts <= found.verdicts);
    assert!(found.wrong_trials <= found.trials);
    let lines = text.lines().count();
    assert!(found.unreadable + found.steps + found.trials + found.states + found.verdicts <= lines);
    let wrong = faults(text);
    let counted = found.wrong_results + found.invented_numbers + found.wrong_numbers;
    assert_eq!(wrong.len(), counted + found.wrong_states + found.wrong_verdicts + found.wrong_trials);
    assert!(wrong.iter().all(|fault| text.is_char_boundary(fault.at)));
    assert!(choices(text).iter().all(|choice| text.get(choice.place.clone()).is_some()));
}

/// The first state and its width.
pub fn states(bytes: &[u8]) {
    let text = &*written(bytes);
    assert!(first_state(text).is_none_or(|(_, numbers)| numbers.len() <= text.len()));
    assert!(first_width(text) <= text.lines().count());
}

/// Steps of a claim.
pub fn claims(bytes: &[u8]) {
    let text = &*written(bytes);
    let steps = claimed_steps(text);
    assert!(steps.len() <= text.len());
    assert!(steps.iter().all(|step| text.contains(&step.to_string())));
}
