//! Verdicts against the golden judge, its twin below, and hostile text.

mod common;

use apr_countdown::check::{Reason, Verdict, check_claim, check_solution, check_trace};
use apr_countdown::solve::solve;
use apr_countdown::trace::write::Writer;
use apr_countdown::{Number, Step};
use common::{golden, text};
use proptest::prelude::*;

#[test]
fn golden_solutions() {
    for row in golden("checks.jsonl.gz") {
        let verdict = check_solution(text(&row, "prefix"), text(&row, "solution"));
        assert_eq!(verdict.correct, row["strict"], "{verdict:?}: {row}");
    }
}

#[test]
fn golden_traces() {
    for row in golden("trace_checks.jsonl.gz") {
        let verdict = check_trace(text(&row, "text"));
        assert_eq!(verdict.correct, row["strict"], "{verdict:?}: {row}");
    }
}

#[test]
fn a_solved_teacher_trace_proves_its_claim() {
    for row in golden("apr_traces.jsonl.gz") {
        let main = row["trace_dict"]["main_calls"].as_array().unwrap().last().unwrap();
        let main = main.as_str().unwrap();
        let prompt: Vec<&str> = main.lines().take(2).collect();
        assert_eq!(check_claim(&prompt.join("\n"), main).correct, row["solved"]);
        assert_eq!(check_trace(main).correct, row["solved"]);
    }
}

const PROMPT: &str = "Moving to Node #0\nCurrent State: 10:[2, 3, 4], Operations: []";

fn reason(solution: &str) -> Reason {
    check_solution(PROMPT, solution).reason
}

#[test]
fn every_reason_has_its_case() {
    let first = "Exploring Operation: 2*3=6, Resulting Numbers: [4, 6]\n";
    let both = format!("{first}Exploring Operation: 4+6=10, Resulting Numbers: [10]\n");
    let after_both = |line: &str| reason(&format!("{both}{line}"));
    assert_eq!(after_both("10,10 equal: Goal Reached"), Reason::Solved);
    assert_eq!(after_both("10,10 equal: Goal Reached\nand what not"), Reason::Solved);
    assert_eq!(after_both("10,11 equal: Goal Reached"), Reason::WrongGoal);
    assert_eq!(after_both("10,10 equal: Goal Reached\r"), Reason::MalformedGoal);
    assert_eq!(after_both("<Goal Reached in Sub Search 0"), Reason::MalformedGoal);
    assert_eq!(after_both(""), Reason::NoGoal);
    assert_eq!(reason(&format!("{first}10,10 equal: Goal Reached")), Reason::GoalNotReached);
    assert_eq!(reason("Exploring Operation: 2*3=6"), Reason::MalformedStep);
    assert_eq!(reason(&format!(" {first}")), Reason::MalformedStep);
    assert_eq!(reason("Exploring Operation: 2-3=-1, Resulting Numbers: [4, -1]"), Reason::MalformedStep);
    assert_eq!(reason("Exploring Operation: 2-3=1, Resulting Numbers: [4, 1]"), Reason::WrongResult);
    assert_eq!(reason("Exploring Operation: 2/3=0, Resulting Numbers: [4, 0]"), Reason::WrongResult);
    assert_eq!(reason("Exploring Operation: 2*2=4, Resulting Numbers: [3, 4]"), Reason::NumberMissing);
    assert_eq!(reason("Exploring Operation: 2*3=6, Resulting Numbers: [4]"), Reason::WrongNumbers);
    let long = "1".repeat(31);
    assert_eq!(reason(&format!("Exploring Operation: {long}*3=6, Resulting Numbers: [4]")), Reason::NumberTooLong);
    assert_eq!(check_solution("", "").reason, Reason::NoState);
    assert_eq!(check_solution("Current State: 3:[3, x]", "").reason, Reason::NoState);
    assert_eq!(check_solution("Current State: x\nCurrent State: 3:[3]", "").reason, Reason::NoState);
    assert_eq!(check_claim(PROMPT, "10,10 equal: Goal Reached").reason, Reason::NoSummary);
    assert_eq!(check_trace(PROMPT).reason, Reason::NoSummary);
}

#[test]
fn a_product_beyond_128_bits_is_wrong() {
    let n = "9".repeat(30);
    let prompt = format!("Current State: 1:[{n}, {n}], Operations: []");
    let step = format!("Exploring Operation: {n}*{n}=1, Resulting Numbers: [1]\n1,1 equal: Goal Reached");
    assert_eq!(check_solution(&prompt, &step).reason, Reason::WrongResult);
}

fn written(numbers: &[Number], target: Number, steps: &[Step]) -> (String, String) {
    let mut prompt = Writer::default();
    prompt.move_to(&[]);
    prompt.open_state(target, numbers, &[]);
    let mut left = numbers.to_vec();
    let mut solution = Writer::default();
    for step in steps {
        for operand in [step.left, step.right] {
            left.remove(left.iter().position(|&n| n == operand).expect("an operand that is left"));
        }
        left.push(step.result);
        solution.explore(step, &left);
    }
    solution.goal(target);
    (prompt.into_string(), solution.into_string())
}

/// The rule once more, as plainly as it can be said.
fn twin(mut numbers: Vec<Number>, target: Number, steps: &[Step]) -> bool {
    for step in steps {
        for operand in [step.left, step.right] {
            let Some(at) = numbers.iter().position(|&n| n == operand) else {
                return false;
            };
            numbers.swap_remove(at);
        }
        let (a, b) = (step.left, step.right);
        let right = match step.op.symbol() {
            b'+' => a + b == step.result,
            b'*' => a * b == step.result,
            b'-' => a - b == step.result,
            _ => b != 0 && b * step.result == a,
        };
        if !right {
            return false;
        }
        numbers.push(step.result);
    }
    numbers == [target]
}

proptest! {
    #[test]
    fn what_the_solver_finds_is_right(numbers in prop::collection::vec(0..30i128, 1..6), target in 1..60i128) {
        if let Some(solution) = solve(&numbers, target).unwrap() {
            let (prompt, text) = written(&numbers, target, &solution.steps);
            prop_assert_eq!(check_solution(&prompt, &text).reason, Reason::Solved);
            let trace = format!("{prompt}\n{target},{target} equal: Goal Reached\n{text}");
            prop_assert_eq!(check_trace(&trace).reason, Reason::Solved);
            prop_assert_eq!(check_claim(&prompt, &trace).reason, Reason::Solved);
        }
    }

    #[test]
    fn agrees_with_the_twin(
        numbers in prop::collection::vec(0..12i128, 2..4),
        target in 1..30i128,
        changed in 0..3usize,
        by in -1..2i128,
    ) {
        if let Some(mut solution) = solve(&numbers, target).unwrap() {
            let step = changed % solution.steps.len();
            let part = &mut solution.steps[step];
            match changed {
                0 => part.left = (part.left + by).max(0),
                1 => part.right = (part.right + by).max(0),
                _ => part.result = (part.result + by).max(0),
            }
            // Only steps whose operands exist can be written down with the numbers they leave.
            let mut left = numbers.clone();
            let possible = solution.steps.iter().all(|step| {
                let found = [step.left, step.right].iter().all(|operand| {
                    left.iter().position(|n| n == operand).map(|at| left.remove(at)).is_some()
                });
                left.push(step.result);
                found
            });
            if possible {
                let (prompt, text) = written(&numbers, target, &solution.steps);
                let verdict = check_solution(&prompt, &text);
                prop_assert_eq!(verdict.correct, twin(numbers, target, &solution.steps), "{:?}", verdict);
            }
        }
    }

    #[test]
    fn any_text_gets_a_verdict(prompt in ".*", text in ".*") {
        let prompts = [prompt.as_str(), PROMPT];
        for prompt in prompts {
            let verdicts: [Verdict; 3] = [check_solution(prompt, &text), check_claim(prompt, &text), check_trace(&text)];
            prop_assert!(verdicts.iter().all(|verdict| verdict.correct == (verdict.reason == Reason::Solved)));
        }
    }

    #[test]
    fn a_mutated_solution_gets_a_verdict(at in 0..400usize, junk in "\\PC{0,3}|[\r\n\u{2028}0-9,=]{0,3}") {
        let (prompt, text) = written(&[66, 3, 4, 22], 40, &solve(&[66, 3, 4, 22], 40).unwrap().unwrap().steps);
        let mut trace = format!("{prompt}\n40,40 equal: Goal Reached\n{text}");
        trace.insert_str(at % trace.len(), &junk);
        check_solution(&prompt, &trace);
        check_trace(&trace);
    }
}
