//! What a thread wrote, line by line, and what of it is wrong: diagnostics of a model's text.
//!
//! Where a verdict ends at the first fault, this goes on: each line is held against what the text itself says above
//! it, so a fault counts once and not again wherever it is copied. Join blocks are others' words and are not read.
//! Any text can be inspected.

use std::collections::{HashMap, HashSet};

use crate::arithmetic;
use crate::problem::{Number, Op, Step};
use crate::trace::read::{Line, State};
use crate::trace::{EQUAL, MOVE, STATE, UNEQUAL};

/// Counts over the lines of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Lines that are not in the grammar.
    pub unreadable: usize,
    /// Operations tried.
    pub steps: usize,
    /// Steps whose result is wrong.
    pub wrong_results: usize,
    /// Steps that take a number which the state does not have.
    pub invented_numbers: usize,
    /// Steps, or nodes made of them, that list other numbers than are left.
    pub wrong_numbers: usize,
    /// Steps tried already in the same state.
    pub repeated_steps: usize,
    /// States written after a move.
    pub states: usize,
    /// States that are not those of the node moved to.
    pub wrong_states: usize,
    /// Comparisons with the target.
    pub verdicts: usize,
    /// Comparisons of other numbers, or with the wrong outcome.
    pub wrong_verdicts: usize,
}

/// Inspects the whole text of a thread, its prompt included.
pub fn inspect(text: &str) -> Inspection {
    let mut reader = Reader::default();
    for line in body(text).lines() {
        reader.line(line);
    }
    reader.found
}

/// The first state of a text: target and numbers.
pub fn first_state(text: &str) -> Option<(Number, Vec<Number>)> {
    let start = text.find(STATE)?;
    match Line::parse(text[start..].lines().next()?)? {
        Line::State(state) => Some((state.target, state.numbers)),
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

/// The text without the condition that may stand before its first line.
fn body(text: &str) -> &str {
    let first = text.lines().next().unwrap_or("");
    let start = [MOVE, STATE].iter().filter_map(|phrase| first.find(phrase)).min();
    &text[start.unwrap_or(0)..]
}

#[derive(Default)]
struct Reader<'a> {
    found: Inspection,
    /// States by node id, as first written.
    nodes: HashMap<&'a str, State>,
    target: Option<Number>,
    /// The node that the last move named.
    moved: Option<&'a str>,
    state: Option<State>,
    /// Operations tried in it, the smaller operand first.
    tried: HashSet<(Number, Op, Number)>,
    /// The step of the last line, and what it left.
    explored: Option<(Step, Vec<Number>)>,
    /// Inside a join block.
    joining: bool,
    /// A goal stands in the join block just read.
    joined_goal: bool,
}

impl<'a> Reader<'a> {
    fn line(&mut self, text: &'a str) {
        let line = Line::parse(text);
        if self.joining {
            match line {
                Some(Line::EndJoin) => self.joining = false,
                Some(Line::ChildSolved { .. }) => self.joined_goal = true,
                _ => {}
            }
            return;
        }
        match line {
            Some(Line::Move { id } | Line::StartSubSearch { id, .. }) => self.moved = Some(id),
            Some(Line::State(state)) => self.state(state),
            Some(Line::Explore { step, numbers }) => self.explore(step, numbers),
            Some(Line::Generated { id, target, numbers, step }) => self.generated(id, target, numbers, step),
            Some(Line::Dead { number, target }) => self.verdict(number, target, number != target),
            Some(Line::Goal { target }) => self.verdict(target, target, true),
            Some(Line::Join) => (self.joining, self.joined_goal) = (true, false),
            Some(_) => {}
            None if [EQUAL, UNEQUAL].iter().any(|end| text.ends_with(end.trim_end())) => {
                self.found.verdicts += 1;
                self.found.wrong_verdicts += 1;
            }
            None => self.found.unreadable += usize::from(!text.is_empty()),
        }
    }

    fn state(&mut self, state: State) {
        // A thread begins in the state of its prompt, with or without a move.
        let id = self.moved.take().unwrap_or("0");
        if self.target.is_none() {
            self.target = Some(state.target);
            self.nodes.insert(id, state.clone());
        } else {
            self.found.states += 1;
            let same = |known: &State| {
                known.target == state.target
                    && sorted(&known.numbers) == sorted(&state.numbers)
                    && known.steps == state.steps
            };
            self.found.wrong_states += usize::from(!self.nodes.get(id).is_some_and(same));
        }
        self.state = Some(state);
        self.tried.clear();
    }

    fn explore(&mut self, step: Step, numbers: Vec<Number>) {
        let Step { left, op, right, result } = step;
        self.found.steps += 1;
        self.found.wrong_results += usize::from(arithmetic::apply(left, op, right) != Some(result));
        let tried = (left.min(right), op, left.max(right));
        self.found.repeated_steps += usize::from(!self.tried.insert(tried));
        match self.state.as_ref().and_then(|state| without(&state.numbers, [left, right])) {
            None => self.found.invented_numbers += 1,
            Some(mut rest) => {
                rest.push(result);
                self.found.wrong_numbers += usize::from(sorted(&rest) != sorted(&numbers));
            }
        }
        self.explored = Some((step, numbers));
    }

    fn generated(&mut self, id: &'a str, target: Number, numbers: Vec<Number>, step: Step) {
        let copied = self.explored.as_ref().is_some_and(|(tried, left)| *tried == step && *left == numbers);
        self.found.wrong_numbers += usize::from(!copied || Some(target) != self.target);
        let mut steps = self.state.as_ref().map_or_else(Vec::new, |state| state.steps.clone());
        steps.push(step);
        self.nodes.entry(id).or_insert(State { target, numbers, steps });
    }

    fn verdict(&mut self, number: Number, target: Number, right: bool) {
        self.found.verdicts += 1;
        let left = match &self.explored {
            Some((step, numbers)) => numbers.len() == 1 && step.result == number,
            None => false,
        };
        let goal = number == target && std::mem::take(&mut self.joined_goal);
        self.found.wrong_verdicts += usize::from(!right || Some(target) != self.target || !(left || goal));
        self.explored = None;
    }
}

fn sorted(numbers: &[Number]) -> Vec<Number> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted
}

/// The numbers without two of them; `None` if they are not there.
fn without(numbers: &[Number], taken: [Number; 2]) -> Option<Vec<Number>> {
    let mut rest = numbers.to_vec();
    for n in taken {
        let place = rest.iter().position(|&m| m == n)?;
        rest.remove(place);
    }
    Some(rest)
}
