//! One line of a trace as a value: the inverse of the writer.
//!
//! Reading is strict. Numbers are plain ASCII decimals of up to [`MAX_DIGITS`] digits, lists and ids are no longer
//! than a problem can make them, and nothing may follow a line.

use crate::problem::{MAX_NUMBERS, Number, Op, Step};
use crate::trace::*;

/// The most digits that a number may have; 30 always fit into 128 bits.
pub const MAX_DIGITS: usize = 30;

/// A state: numbers left for a target, and the steps that led there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The target.
    pub target: Number,
    /// The numbers left, 1 to [`MAX_NUMBERS`].
    pub numbers: Vec<Number>,
    /// The steps done, fewer than [`MAX_NUMBERS`].
    pub steps: Vec<Step>,
}

/// One line of a trace. Ids are `0`, `0,2`, `0,2,1`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the variable parts of the line")]
pub enum Line<'a> {
    /// `Current State: ...`
    State(State),
    /// `Exploring Operation: ...`
    Explore { step: Step, numbers: Vec<Number> },
    /// `13*60=780`, `871-780=91`: of a trial, which tells whether a quotient is one
    Trial { step: Step },
    /// `Generated Node #...`
    Generated { id: &'a str, target: Number, numbers: Vec<Number>, step: Step },
    /// `... unequal: No Solution`
    Dead { number: Number, target: Number },
    /// `... equal: Goal Reached`
    Goal { target: Number },
    /// `Moving to Node #...`
    Move { id: &'a str },
    /// `No solution found.`
    Fail,
    /// `Start Sub Search at level ...`
    StartSubSearch { level: usize, id: &'a str },
    /// `Exit Sub Search at level ...`
    ExitSubSearch { level: usize },
    /// `No solution found in sub search`
    NothingInSubSearch,
    /// The opening line of a spawn block.
    Spawn,
    /// A child's line in a spawn block.
    SpawnChild { index: usize, level: usize, id: &'a str },
    /// The closing line of a spawn block.
    EndSpawn,
    /// The opening line of a join block.
    Join,
    /// A child's line in a join block that says it failed.
    ChildFailed { index: usize, level: usize, id: &'a str },
    /// A child's line in a join block that says it reached the goal; its summary follows.
    ChildSolved { index: usize, level: usize, id: &'a str },
    /// A child's line in a join block that says it was cancelled.
    ChildCancelled { index: usize, level: usize, id: &'a str },
    /// The closing line of a join block.
    EndJoin,
}

/// What a line tells, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Where the search is.
    State,
    /// An operation: tried, or kept.
    Step,
    /// Nothing is to be found this way.
    Dead,
    /// The target is reached.
    Found,
    /// Children are asked for, or a serial search goes below.
    Spawn,
    /// What children found.
    Join,
}

impl<'a> Line<'a> {
    /// What it tells.
    pub fn kind(&self) -> Kind {
        match self {
            Line::State(_) | Line::Move { .. } => Kind::State,
            Line::Explore { .. } | Line::Trial { .. } | Line::Generated { .. } => Kind::Step,
            Line::Dead { .. } | Line::Fail | Line::ExitSubSearch { .. } | Line::NothingInSubSearch => Kind::Dead,
            Line::Goal { .. } => Kind::Found,
            Line::StartSubSearch { .. } | Line::Spawn | Line::SpawnChild { .. } | Line::EndSpawn => Kind::Spawn,
            Line::Join
            | Line::ChildFailed { .. }
            | Line::ChildSolved { .. }
            | Line::ChildCancelled { .. }
            | Line::EndJoin => Kind::Join,
        }
    }

    /// Reads one line, its line break left out; `None` if it is not in the grammar.
    pub fn parse(line: &'a str) -> Option<Line<'a>> {
        let mut scan = Scan { rest: line };
        let line = scan.line()?;
        scan.rest.is_empty().then_some(line)
    }
}

/// Reads from the left.
pub(super) struct Scan<'a> {
    pub(super) rest: &'a str,
}

impl<'a> Scan<'a> {
    /// Whether the text goes on with a phrase, which is then read; the line break some phrases end with is not.
    pub(super) fn at(&mut self, phrase: &str) -> bool {
        let rest = self.rest.strip_prefix(phrase.trim_end_matches('\n'));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    pub(super) fn phrase(&mut self, phrase: &str) -> Option<()> {
        self.at(phrase).then_some(())
    }

    pub(super) fn number(&mut self) -> Option<Number> {
        let (digits, rest) = split_number(self.rest)?;
        self.rest = rest;
        digits.parse().ok()
    }

    fn count(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    pub(super) fn step(&mut self) -> Option<Step> {
        let left = self.number()?;
        let op = Op::from_symbol(*self.rest.as_bytes().first()?)?;
        self.rest = &self.rest[1..];
        let right = self.number()?;
        self.phrase("=")?;
        Some(Step { left, op, right, result: self.number()? })
    }

    fn list(&mut self) -> Option<Vec<Number>> {
        let mut numbers = vec![self.number()?];
        while self.at(COMMA) {
            numbers.push(self.number()?);
        }
        (numbers.len() <= MAX_NUMBERS).then_some(numbers)
    }

    /// An id: the root's `0` and a child index per generation.
    pub(super) fn id(&mut self) -> Option<&'a str> {
        let start = self.rest;
        let mut rest = start.strip_prefix('0')?;
        let mut depth = 0;
        while let Some(index) = rest.strip_prefix(',') {
            rest = split_number(index)?.1;
            depth += 1;
        }
        self.rest = rest;
        (depth < MAX_NUMBERS).then(|| &start[..start.len() - rest.len()])
    }

    fn steps(&mut self) -> Option<Vec<Step>> {
        if self.at(NO_OPERATIONS) {
            return Some(Vec::new());
        }
        self.phrase(OPERATIONS)?;
        let mut steps = vec![self.step()?];
        while self.at(NEXT_OPERATION) {
            steps.push(self.step()?);
        }
        self.phrase(END_OPERATIONS)?;
        (steps.len() < MAX_NUMBERS).then_some(steps)
    }

    fn child(&mut self, before_id: &str, end: &str) -> Option<(usize, usize, &'a str)> {
        let index = self.count()?;
        self.phrase(AT_LEVEL)?;
        let level = self.count()?;
        self.phrase(before_id)?;
        let id = self.id()?;
        self.phrase(end)?;
        Some((index, level, id))
    }

    fn line(&mut self) -> Option<Line<'a>> {
        const BARE: [(&str, Line<'static>); 6] = [
            (FAIL, Line::Fail),
            (NOTHING_IN_SUB_SEARCH, Line::NothingInSubSearch),
            (SPAWN, Line::Spawn),
            (END_SPAWN, Line::EndSpawn),
            (JOIN, Line::Join),
            (END_JOIN, Line::EndJoin),
        ];
        if self.at(EXPLORE) {
            let step = self.step()?;
            self.phrase(RESULTING)?;
            let numbers = self.list()?;
            self.phrase(END_LIST)?;
            Some(Line::Explore { step, numbers })
        } else if self.at(GENERATED) {
            let id = self.id()?;
            self.phrase(NODE_TARGET)?;
            let target = self.number()?;
            self.phrase(TARGET_LIST)?;
            let numbers = self.list()?;
            self.phrase(OPERATION)?;
            Some(Line::Generated { id, target, numbers, step: self.step()? })
        } else if self.at(STATE) {
            let target = self.number()?;
            self.phrase(TARGET_LIST)?;
            Some(Line::State(State { target, numbers: self.list()?, steps: self.steps()? }))
        } else if self.at(MOVE) {
            Some(Line::Move { id: self.id()? })
        } else if self.at(START_SUB_SEARCH) {
            let level = self.count()?;
            self.phrase(START_MOVE)?;
            Some(Line::StartSubSearch { level, id: self.id()? })
        } else if self.at(EXIT_SUB_SEARCH) {
            Some(Line::ExitSubSearch { level: self.count()? })
        } else if self.at(SPAWN_CHILD) {
            self.child(SPAWN_MOVE, "").map(|(index, level, id)| Line::SpawnChild { index, level, id })
        } else if self.at(CHILD_FAILED) {
            self.child(AT_NODE, END_RESULT).map(|(index, level, id)| Line::ChildFailed { index, level, id })
        } else if self.at(CHILD_SOLVED) {
            self.child(AT_NODE, END_RESULT).map(|(index, level, id)| Line::ChildSolved { index, level, id })
        } else if self.at(CHILD_CANCELLED) {
            self.child(AT_NODE, END_RESULT).map(|(index, level, id)| Line::ChildCancelled { index, level, id })
        } else if let Some((_, line)) = BARE.into_iter().find(|(phrase, _)| self.at(phrase)) {
            Some(line)
        } else {
            let start = self.rest;
            let number = self.number()?;
            if [Op::Mul, Op::Sub].iter().any(|op| self.rest.starts_with(op.symbol() as char)) {
                self.rest = start;
                return Some(Line::Trial { step: self.step()? });
            }
            self.phrase(",")?;
            let target = self.number()?;
            if self.at(UNEQUAL) {
                return Some(Line::Dead { number, target });
            }
            self.phrase(EQUAL)?;
            (number == target).then_some(Line::Goal { target })
        }
    }
}

/// Splits a decimal without sign or leading zeros off the left of a text.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let (digits, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && (1..=MAX_DIGITS).contains(&digits.len())).then_some((digits, rest))
}
