//! What a text begins with.

use super::{body, sorted, without};
use crate::arithmetic;
use crate::problem::{Number, Problem, Step};
use crate::trace::STATE;
use crate::trace::read::Line;

/// Whether the first state of a child's prompt is one that its steps lead to from the problem.
pub fn follows(problem: &Problem, prompt: &str) -> bool {
    let line = prompt.find(STATE).and_then(|start| prompt[start..].lines().next());
    let Some(Line::State(state)) = line.and_then(Line::parse) else {
        return false;
    };
    let mut numbers = problem.numbers().to_vec();
    for Step { left, op, right, result } in state.steps {
        match without(&numbers, [left, right]) {
            Some(rest) if arithmetic::apply(left, op, right) == Some(result) => numbers = [rest, vec![result]].concat(),
            _ => return false,
        }
    }
    state.target == problem.target() && sorted(&numbers) == sorted(&state.numbers)
}

/// The first state of a text: target and numbers.
pub fn first_state(text: &str) -> Option<(Number, Vec<Number>)> {
    let start = text.find(STATE)?;
    match Line::parse(text[start..].lines().next()?)? {
        Line::State(state) => Some((state.target, state.numbers)),
        _ => None,
    }
}

/// The node that a thread with this prompt begins at; `None` if it names none.
pub fn first_node(prompt: &str) -> Option<&str> {
    match Line::parse(body(prompt).lines().next()?)? {
        Line::Move { id } => Some(id),
        _ => None,
    }
}

/// How many children a main thread shows of the problem itself, over all waves: the width of its search.
pub fn first_width(text: &str) -> usize {
    let (mut width, mut at_root, mut joining) = (0, false, false);
    for line in body(text).lines().map(Line::parse) {
        match line {
            Some(Line::Join) => joining = true,
            Some(Line::EndJoin) => joining = false,
            _ if joining => {}
            // What follows is the way to it once more.
            Some(Line::Goal { .. }) => break,
            Some(Line::State(state)) => at_root = state.steps.is_empty(),
            Some(Line::Explore { .. }) => width += usize::from(at_root),
            Some(Line::Move { .. } | Line::Spawn) => at_root = false,
            _ => {}
        }
    }
    width
}
