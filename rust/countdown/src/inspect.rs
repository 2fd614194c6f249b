//! What a thread wrote, line by line, and what of it is wrong: diagnostics of a model's text.
//!
//! Where a verdict ends at the first fault, this goes on: each line is held against what the text itself says above
//! it, so a fault counts once and not again wherever it is copied. Join blocks are others' words and are not read.
//! Any text can be inspected. A fault is where a line left what the grammar and the lines above allow, which is one
//! place: what follows it in the line was written after a wrong begin.

use std::collections::{HashMap, HashSet};

use crate::arithmetic;
use crate::problem::{Number, Op, Step};
use crate::trace::read::{Line, State};
use crate::trace::write::Writer;
use crate::trace::{EQUAL, EXPLORE, MOVE, STATE, UNEQUAL};

mod allowed;
mod choices;
mod first;
mod trial;

use trial::Trial;

pub use choices::{Choice, choices, decisions};
pub use first::{first_node, first_state, first_width, follows};

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
    /// Lines of trials.
    pub trials: usize,
    /// Lines of trials that are not due, and trials that break off.
    pub wrong_trials: usize,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// A step's result, or an operation that has none.
    Result,
    /// A number that the state does not have.
    Invented,
    /// The numbers that a step leaves, or the node made of it.
    Numbers,
    /// A state that is not that of the node moved to.
    State,
    /// A comparison with the target.
    Verdict,
    /// A line of a trial, or that none follows.
    Trial,
}

/// A place where a thread went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: Wrong,
    /// The first byte of the text that cannot stand there, given what stands before it.
    pub at: usize,
    /// What stands from there to the line's end by the grammar; `None` where several things could, or nothing.
    pub right: Option<String>,
}

/// Inspects the whole text of a thread, its prompt included.
pub fn inspect(text: &str) -> Inspection {
    read(text).found
}

/// The faults that [`inspect`] counts as wrong or invented, in the order of their lines.
pub fn faults(text: &str) -> Vec<Fault> {
    read(text).faults
}

fn read(text: &str) -> Reader<'_> {
    let mut reader = Reader::default();
    for (at, line) in lines(text) {
        reader.line(at, line);
    }
    reader
}

/// The lines of a text without its condition, as `str::lines` cuts them, and where each begins in the text.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let body = body(text);
    let start = text.len() - body.len();
    body.lines().map(move |line| (start + line.as_ptr().addr() - body.as_ptr().addr(), line))
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
    faults: Vec<Fault>,
    /// States by node id, as first written.
    nodes: HashMap<&'a str, State>,
    target: Option<Number>,
    /// The node that the last move named, and where it is named.
    moved: Option<(&'a str, usize)>,
    state: Option<State>,
    /// The node that it is.
    node: &'a str,
    /// Operations tried in it, the smaller operand first.
    tried: HashSet<(Number, Op, Number)>,
    /// The step of the last line, and what it left.
    explored: Option<(Step, Vec<Number>)>,
    /// The trial that the last lines are.
    trial: Option<Trial>,
    /// Inside a join block.
    joining: bool,
    /// A goal stands in the join block just read.
    joined_goal: bool,
}

impl<'a> Reader<'a> {
    fn line(&mut self, at: usize, text: &'a str) {
        let line = Line::parse(text);
        if self.joining {
            match line {
                Some(Line::EndJoin) => self.joining = false,
                Some(Line::ChildSolved { .. }) => self.joined_goal = true,
                _ => {}
            }
            return;
        }
        if let Some(Line::Trial { step }) = line {
            return self.trial(at, text, step);
        }
        let trial = self.trial.take();
        if line.is_some()
            && let Some((trial, state)) = trial.as_ref().zip(self.state.as_ref())
            && trial.unfinished(state)
        {
            let due = trial::due(Some(trial), state);
            self.not_due(at, text, &due);
        }
        match line {
            Some(Line::Move { id } | Line::StartSubSearch { id, .. }) => {
                self.moved = Some((id, at + text.len() - id.len()));
            }
            Some(Line::State(state)) => self.state(at, text, state),
            Some(Line::Explore { step, numbers }) => self.explore(at, text, step, numbers, trial),
            Some(Line::Generated { id, target, numbers, step }) => self.generated(at, text, id, target, numbers, step),
            Some(Line::Dead { number, target }) => self.verdict(at, text, number, target, number != target),
            Some(Line::Goal { target }) => self.verdict(at, text, target, target, true),
            Some(Line::Join) => (self.joining, self.joined_goal) = (true, false),
            Some(_) => {}
            None if [EQUAL, UNEQUAL].iter().any(|end| text.ends_with(end.trim_end())) => {
                self.found.verdicts += 1;
                let right = self.right_verdict();
                self.fault(Wrong::Verdict, at, text, right);
            }
            None => self.found.unreadable += usize::from(!text.is_empty()),
        }
    }

    /// Notes a fault in a line that would have to be `right`, its line break included.
    fn fault(&mut self, wrong: Wrong, at: usize, line: &str, right: Option<String>) {
        let same = right.as_ref().map_or(0, |right| allowed::common(line, right));
        self.fault_at(wrong, at + same, right.map(|right| right[same..].to_owned()));
    }

    fn fault_at(&mut self, wrong: Wrong, at: usize, right: Option<String>) {
        *match wrong {
            Wrong::Result => &mut self.found.wrong_results,
            Wrong::Invented => &mut self.found.invented_numbers,
            Wrong::Numbers => &mut self.found.wrong_numbers,
            Wrong::State => &mut self.found.wrong_states,
            Wrong::Verdict => &mut self.found.wrong_verdicts,
            Wrong::Trial => &mut self.found.wrong_trials,
        } += 1;
        self.faults.push(Fault { wrong, at, right });
    }

    fn state(&mut self, at: usize, text: &str, state: State) {
        // A thread begins in the state of its prompt, with or without a move.
        let (id, named) = self.moved.take().unwrap_or(("0", at));
        if self.target.is_none() {
            self.target = Some(state.target);
            self.nodes.insert(id, state.clone());
        } else {
            self.found.states += 1;
            let known = self.nodes.get(id);
            let same = |known: &State| {
                known.target == state.target
                    && sorted(&known.numbers) == sorted(&state.numbers)
                    && known.steps == state.steps
            };
            if !known.is_some_and(same) {
                match known.map(state_line) {
                    Some(right) => self.fault(Wrong::State, at, text, Some(right)),
                    // The state of a node that is none: the move went wrong.
                    None if named < at => {
                        let same = self.nodes.keys().map(|known| allowed::common(id, known)).max();
                        self.fault_at(Wrong::State, named + same.unwrap_or(0), None);
                    }
                    None => self.fault_at(Wrong::State, at, None),
                }
            }
        }
        (self.state, self.node) = (Some(state), id);
        self.tried.clear();
    }

    fn explore(&mut self, at: usize, text: &str, step: Step, numbers: Vec<Number>, trial: Option<Trial>) {
        let Step { left, op, right, result } = step;
        self.found.steps += 1;
        let tried = (left.min(right), op, left.max(right));
        self.found.repeated_steps += usize::from(!self.tried.insert(tried));
        let rest = self.state.as_ref().and_then(|state| without(&state.numbers, [left, right]));
        // Where the two numbers, or the operation on them, are none that the state allows.
        let strayed = |state: &Option<State>| {
            let has = state.as_ref().map_or(&[][..], |state| &state.numbers);
            at + EXPLORE.len() + allowed::steps(has, &text[EXPLORE.len()..])
        };
        let true_result = arithmetic::apply(left, op, right);
        match true_result {
            Some(true_result) if true_result != result => {
                let step = Step { result: true_result, ..step };
                let left = rest.clone().map_or_else(|| numbers.clone(), |rest| [rest, vec![true_result]].concat());
                self.fault(Wrong::Result, at, text, Some(explore_line(&step, &left)));
            }
            // It follows from a trial in which the fault is.
            None if op == Op::Div && trial.is_some_and(|trial| trial.misleads(right)) => {}
            None => self.fault_at(Wrong::Result, strayed(&self.state), None),
            _ => {}
        }
        match rest {
            None => self.fault_at(Wrong::Invented, strayed(&self.state), None),
            Some(mut rest) => {
                rest.push(result);
                if sorted(&rest) != sorted(&numbers) {
                    self.fault(Wrong::Numbers, at, text, Some(explore_line(&step, &rest)));
                }
            }
        }
        self.explored = Some((step, numbers));
    }

    fn trial(&mut self, at: usize, text: &str, step: Step) {
        self.found.trials += 1;
        let trial = self.trial.take();
        let Some(state) = &self.state else {
            return;
        };
        let due = trial::due(trial.as_ref(), state);
        // What cannot go on after a wrong line is not wrong once more.
        let lost = due.is_empty() && trial.as_ref().is_some_and(|trial| trial.wrong);
        let wrong = !lost && !due.iter().any(|line| line.trim_end() == text);
        self.trial = Trial::after(trial, step, wrong, state);
        if wrong {
            self.not_due(at, text, &due);
        }
    }

    /// Notes that a line is none of those that are due in a trial.
    fn not_due(&mut self, at: usize, text: &str, due: &[String]) {
        let same = due.iter().map(|line| allowed::common(text, line)).max().unwrap_or(0);
        let mut nearest = due.iter().filter(|line| allowed::common(text, line) == same);
        let right = nearest.next().filter(|_| nearest.next().is_none());
        self.fault_at(Wrong::Trial, at + same, right.map(|line| line[same..].to_owned()));
    }

    fn generated(&mut self, at: usize, text: &str, id: &'a str, target: Number, numbers: Vec<Number>, step: Step) {
        let copied = self.explored.as_ref().is_some_and(|(tried, left)| *tried == step && *left == numbers);
        // A node is new, but for one that comes once more, as on the way to a solution.
        let known = self.nodes.get(id).map(|known| known.steps.last() == Some(&step));
        let below = id.rsplit_once(',').is_some_and(|(parent, _)| parent == self.node);
        let named = known.unwrap_or(below);
        if !copied || Some(target) != self.target || !named {
            let mut free = (0..).map(|place| format!("{},{place}", self.node));
            let due = match named {
                true => Some(id.to_owned()),
                false => free.find(|id| !self.nodes.contains_key(id.as_str())),
            };
            let right = self.explored.as_ref().zip(self.target).zip(due);
            let right = right.map(|(((tried, left), target), id)| generated_line(&id, target, left, tried));
            self.fault(Wrong::Numbers, at, text, right);
        }
        let mut steps = self.state.as_ref().map_or_else(Vec::new, |state| state.steps.clone());
        steps.push(step);
        self.nodes.entry(id).or_insert(State { target, numbers, steps });
    }

    fn verdict(&mut self, at: usize, text: &str, number: Number, target: Number, right: bool) {
        self.found.verdicts += 1;
        let stands = self.right_verdict();
        let left = self.last_number() == Some(number);
        let goal = number == target && std::mem::take(&mut self.joined_goal);
        if !right || Some(target) != self.target || !(left || goal) {
            self.fault(Wrong::Verdict, at, text, stands);
        }
        self.explored = None;
    }

    /// The one number that the step of the last line leaves.
    fn last_number(&self) -> Option<Number> {
        self.explored.as_ref().filter(|(_, numbers)| numbers.len() == 1).map(|(step, _)| step.result)
    }

    /// The comparison that is due.
    fn right_verdict(&self) -> Option<String> {
        let target = self.target?;
        let number = self.last_number().or_else(|| self.joined_goal.then_some(target))?;
        let mut line = Writer::default();
        if number == target {
            line.goal(target)
        } else {
            line.dead(number, target)
        }
        Some(line.into_string())
    }
}

fn state_line(state: &State) -> String {
    let mut line = Writer::default();
    line.state(state.target, &state.numbers, &state.steps);
    line.into_string()
}

fn explore_line(step: &Step, numbers: &[Number]) -> String {
    let mut line = Writer::default();
    line.explore(step, numbers);
    line.into_string()
}

fn generated_line(id: &str, target: Number, numbers: &[Number], step: &Step) -> String {
    let mut line = Writer::default();
    line.generated(target, step, numbers, id);
    line.into_string()
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
