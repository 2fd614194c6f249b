//! The solver against the golden files and against a brute-force twin.

mod common;

use std::collections::BTreeSet;

use apr_countdown::arithmetic::combine;
use apr_countdown::solve::{Solution, can_reach, canonical, solve, solve_all, solve_shortest};
use apr_countdown::{Error, Number, Op, Step};
use common::{golden, number, numbers};
use proptest::prelude::*;
use serde_json::Value;

fn texts(solution: &Solution) -> Vec<String> {
    solution.steps.iter().map(|step| step.to_string()).collect()
}

#[test]
fn golden_first_solutions() {
    for file in ["solve.jsonl", "problems.jsonl"] {
        for row in golden(file) {
            let (nums, target) = (numbers(&row, "nums"), number(&row["target"]));
            let found = solve(&nums, target).unwrap().map(|solution| texts(&solution));
            assert_eq!(found.map_or(Value::Null, Value::from), row["solution"], "{row}");
        }
    }
}

/// All step lists of the plain recursion, first to last.
fn brute_force(numbers: &[Number], target: Number) -> Vec<Vec<Step>> {
    if let [last] = numbers {
        return if *last == target { vec![vec![]] } else { vec![] };
    }
    let mut found = Vec::new();
    for i in 0..numbers.len() {
        for j in i + 1..numbers.len() {
            for step in combine(numbers[i], numbers[j]).unwrap().iter() {
                let mut left = numbers.to_vec();
                left.remove(j);
                left.remove(i);
                left.push(step.result);
                for rest in brute_force(&left, target) {
                    found.push([vec![*step], rest].concat());
                }
            }
        }
    }
    found
}

/// Two solutions are the same if these are.
fn key(steps: &[Step]) -> Vec<(Op, Number, Number)> {
    let of = |step: &Step| (step.op, step.left.max(step.right), step.left.min(step.right));
    let mut keys: Vec<_> = steps.iter().map(of).collect();
    keys.sort();
    keys
}

/// Reads an expression from the left and returns its value and the numbers in it.
fn evaluate(text: &str) -> (Number, Vec<Number>) {
    fn sum(text: &mut &[u8], leaves: &mut Vec<Number>) -> Number {
        let mut value = product(text, leaves);
        while let Some(&sign @ (b'+' | b'-')) = text.first() {
            *text = &text[1..];
            let right = product(text, leaves);
            value = if sign == b'+' { value + right } else { value - right };
            assert!(value >= 0);
        }
        value
    }
    fn product(text: &mut &[u8], leaves: &mut Vec<Number>) -> Number {
        let mut value = factor(text, leaves);
        while let Some(&sign @ (b'*' | b'/')) = text.first() {
            *text = &text[1..];
            let right = factor(text, leaves);
            if sign == b'/' {
                assert_eq!(value % right, 0);
            }
            value = if sign == b'*' { value * right } else { value / right };
        }
        value
    }
    fn factor(text: &mut &[u8], leaves: &mut Vec<Number>) -> Number {
        if text[0] == b'(' {
            *text = &text[1..];
            let value = sum(text, leaves);
            assert_eq!(text[0], b')');
            *text = &text[1..];
            return value;
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = std::str::from_utf8(&text[..digits]).unwrap().parse().unwrap();
        *text = &text[digits..];
        leaves.push(value);
        value
    }
    let mut rest = text.as_bytes();
    let mut leaves = Vec::new();
    let value = sum(&mut rest, &mut leaves);
    assert!(rest.is_empty(), "{text}");
    leaves.sort();
    (value, leaves)
}

fn check_against_twin(numbers: &[Number], target: Number) {
    let all = brute_force(numbers, target);
    let first = solve(numbers, target).unwrap();
    assert_eq!(first.as_ref().map(|solution| &solution.steps), all.first());
    assert_eq!(can_reach(numbers, target).unwrap(), !all.is_empty());

    let expected: BTreeSet<_> = all.iter().map(|steps| key(steps)).collect();
    let found = solve_all(numbers, target).unwrap();
    let keys: BTreeSet<_> = found.iter().map(|solution| key(&solution.steps)).collect();
    assert_eq!(keys.len(), found.len(), "a solution is found twice");
    assert_eq!(keys, expected);
    let forms: BTreeSet<_> = all.iter().map(|steps| (key(steps), format!("{:?}", canonical(steps)))).collect();
    assert_eq!(forms.len(), expected.len(), "equal solutions have one form");
    assert_eq!(forms.iter().map(|(_, form)| form).collect::<BTreeSet<_>>().len(), expected.len());

    let expressions: Vec<String> = found.iter().map(Solution::expression).collect();
    assert!(expressions.is_sorted_by_key(|text| (text.len(), text.clone())));
    assert_eq!(expressions.iter().collect::<BTreeSet<_>>().len(), expressions.len(), "{expressions:?}");
    let mut leaves = numbers.to_vec();
    leaves.sort();
    for expression in &expressions {
        assert_eq!(evaluate(expression), (target, leaves.clone()), "{expression}");
    }
    assert_eq!(solve_shortest(numbers, target).unwrap(), found.into_iter().next());
}

proptest! {
    #[test]
    fn four_numbers_agree_with_brute_force(
        numbers in prop::collection::vec(0..20i128, 1..5),
        target in 1..50i128,
    ) {
        check_against_twin(&numbers, target);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn five_numbers_agree_with_brute_force(
        numbers in prop::collection::vec(0..12i128, 5),
        target in 1..200i128,
    ) {
        check_against_twin(&numbers, target);
    }
}

#[test]
fn equal_numbers_and_zeros() {
    for numbers in [&[5, 5, 5, 5][..], &[0, 0, 7, 7], &[1, 1, 1, 1, 1], &[2, 2, 2, 4, 4], &[0, 0, 0, 1]] {
        for target in 1..12 {
            check_against_twin(numbers, target);
        }
    }
}

#[test]
fn expressions_have_only_the_parentheses_they_need() {
    let shortest = |numbers: &[Number], target| solve_shortest(numbers, target).unwrap().unwrap().expression();
    assert_eq!(shortest(&[39], 39), "39");
    assert_eq!(solve(&[66, 3, 4, 22], 40).unwrap().unwrap().expression(), "66/3-4+22");
    assert_eq!(shortest(&[2, 3, 5], 25), "(2+3)*5");
    assert_eq!(shortest(&[20, 3, 4], 13), "20-3-4");
    assert_eq!(shortest(&[1, 2, 3, 4], 24), "1*2*3*4");
}

/// Beyond 64 bits everything is exact; beyond 128 it is an error.
#[test]
fn large_numbers() {
    let large = Number::pow(10, 18) + 3;
    let target = large * large - 1;
    assert_eq!(solve(&[large, large, 1], target).unwrap().unwrap().expression(), format!("{large}*{large}-1"));
    assert_eq!(solve_all(&[large, large, 1], target + 3), Ok(vec![]));
    assert_eq!(solve(&[2, 3], large), Ok(None));
    assert_eq!(solve(&[Number::MAX], Number::MAX).unwrap().unwrap().expression(), Number::MAX.to_string());
    assert_eq!(solve(&[Number::MAX, 2], 5), Err(Error::Overflow));
    assert_eq!(solve_all(&[Number::pow(10, 20), Number::pow(10, 20)], 1), Err(Error::Overflow));
}

#[test]
fn what_is_no_problem_is_an_error() {
    assert_eq!(solve(&[], 5), Err(Error::NumberCount(0)));
    assert_eq!(solve_all(&[1; 7], 5), Err(Error::NumberCount(7)));
    assert_eq!(can_reach(&[1, -1], 5), Err(Error::NegativeNumber(-1)));
    assert_eq!(solve(&[1, 2], 0), Err(Error::Target(0)));
}
