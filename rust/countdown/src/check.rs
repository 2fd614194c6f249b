//! Verdicts on what a model claims: on a solution, on a child's result, on a whole trace.
//!
//! One rule for all. A state line gives the target and the multiset of numbers. Every line that speaks of a tried
//! operation must be one exactly, take its operands out of the multiset, be true in exact integers and list what is
//! left. The first line that speaks of the goal decides: it must name the target twice, when the target alone is left.
//! Other lines are not read. Lines end at `\n` only; numbers are up to 30 ASCII digits. Any text gets a verdict.

use std::fmt;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, PatternID};

use crate::arithmetic;
use crate::problem::{MAX_NUMBERS, Number, Op, Step};
use crate::trace::read::{MAX_DIGITS, search_result, summary};
use crate::trace::{COMMA, END_LIST, EQUAL, EXPLORE, GOAL, RESULTING, STATE, TARGET_LIST};

/// Whether a text is right, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Whether the text proves what it claims.
    pub correct: bool,
    /// The first thing that decided.
    pub reason: Reason,
    /// The steps of the accepted path in order; empty if nothing was accepted.
    pub steps: Vec<Step>,
}

/// What decides a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All numbers are used and the target is reached.
    Solved,
    /// No readable state to start from.
    NoState,
    /// The goal is not stated twice, so there is no summary to judge.
    NoSummary,
    /// No line states the goal.
    NoGoal,
    /// A line about a tried operation is not exactly one.
    MalformedStep,
    /// A line about the goal is not exactly one.
    MalformedGoal,
    /// A number has more than [`MAX_DIGITS`] digits.
    NumberTooLong,
    /// A step takes a number that is not there.
    NumberMissing,
    /// A step's result is wrong, not exact, or too large.
    WrongResult,
    /// A step lists other numbers than those left.
    WrongNumbers,
    /// The goal line does not name the target twice.
    WrongGoal,
    /// The goal is stated while something else than the target is left.
    GoalNotReached,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Solved => "solved",
            Reason::NoState => "no readable state with a target and numbers",
            Reason::NoSummary => "no summary: the goal is not stated twice",
            Reason::NoGoal => "the goal is never stated",
            Reason::MalformedStep => "a line about an operation is malformed",
            Reason::MalformedGoal => "a line about the goal is malformed",
            Reason::NumberTooLong => "a number is too long",
            Reason::NumberMissing => "a step uses a number that is not there",
            Reason::WrongResult => "a step's result is wrong",
            Reason::WrongNumbers => "a step lists the wrong numbers",
            Reason::WrongGoal => "the goal line does not name the target",
            Reason::GoalNotReached => "the goal is stated before the target alone is left",
        })
    }
}

impl From<Reason> for Verdict {
    fn from(reason: Reason) -> Verdict {
        Verdict { correct: reason == Reason::Solved, reason, steps: Vec::new() }
    }
}

/// Judges a solution: the steps in `text` from the first state in `prompt` on.
pub fn check_solution(prompt: &str, text: &str) -> Verdict {
    match State::first_in(prompt) {
        Ok(state) => state.judge(text),
        Err(reason) => reason.into(),
    }
}

/// Judges what a finished thread claims: its result, as a join would write it, against the thread's own prompt.
pub fn check_claim(prompt: &str, text: &str) -> Verdict {
    match search_result(text) {
        Some(result) => check_solution(prompt, result),
        None => Reason::NoSummary.into(),
    }
}

/// Judges a whole trace, its prompt included: the summary after the second-to-last mention of the goal against the
/// first state.
pub fn check_trace(text: &str) -> Verdict {
    match (State::first_in(text), summary(text)) {
        (Err(reason), _) => reason.into(),
        (Ok(_), None) => Reason::NoSummary.into(),
        (Ok(state), Some(rest)) => {
            // The summary starts on the next line: what is left of the goal's own line proves nothing.
            let next_lines = rest.split_once('\n').map_or("", |(_, lines)| lines);
            state.judge(next_lines)
        }
    }
}

/// What is left to use, sorted, and the target.
struct State {
    target: Number,
    numbers: Vec<Number>,
}

impl State {
    /// The state at the first place that says so; if that one is not readable, a later one does not count.
    fn first_in(text: &str) -> Result<State, Reason> {
        let start = text.find(keyword(STATE)).ok_or(Reason::NoState)?;
        let mut scan = Scan::new(&text[start..], Reason::NoState);
        scan.phrase(STATE)?;
        let target = scan.number()?;
        scan.phrase(TARGET_LIST)?;
        let mut numbers = scan.list()?;
        scan.phrase(END_LIST.trim_end())?;
        numbers.sort_unstable();
        Ok(State { target, numbers })
    }

    fn judge(mut self, text: &str) -> Verdict {
        let mut steps = Vec::with_capacity(self.numbers.len());
        let mut rest = text;
        while let Some(found) = telling_words().find(rest) {
            let start = rest[..found.start()].rfind('\n').map_or(0, |before| before + 1);
            let end = rest[found.start()..].find('\n').map_or(rest.len(), |length| found.start() + length);
            let line = &rest[start..end];
            if found.pattern() == TRIED || line.contains(keyword(EXPLORE)) {
                match self.step(line) {
                    Ok(step) => steps.push(step),
                    Err(reason) => return reason.into(),
                }
            } else {
                return match self.goal(line) {
                    Ok(()) => Verdict { steps, ..Reason::Solved.into() },
                    Err(reason) => reason.into(),
                };
            }
            rest = rest.get(end + 1..).unwrap_or("");
        }
        Reason::NoGoal.into()
    }

    fn step(&mut self, line: &str) -> Result<Step, Reason> {
        let mut scan = Scan::new(line, Reason::MalformedStep);
        scan.phrase(EXPLORE)?;
        let left = scan.number()?;
        let op = scan.op()?;
        let right = scan.number()?;
        scan.phrase("=")?;
        let result = scan.number()?;
        scan.phrase(RESULTING)?;
        let mut listed = scan.list()?;
        scan.phrase(END_LIST.trim_end())?;
        scan.end()?;
        self.take(left)?;
        self.take(right)?;
        if arithmetic::apply(left, op, right) != Some(result) {
            return Err(Reason::WrongResult);
        }
        self.numbers.insert(self.numbers.partition_point(|&n| n < result), result);
        listed.sort_unstable();
        if listed == self.numbers { Ok(Step { left, op, right, result }) } else { Err(Reason::WrongNumbers) }
    }

    fn take(&mut self, n: Number) -> Result<(), Reason> {
        let position = self.numbers.binary_search(&n).map_err(|_| Reason::NumberMissing)?;
        self.numbers.remove(position);
        Ok(())
    }

    fn goal(&self, line: &str) -> Result<(), Reason> {
        let mut scan = Scan::new(line, Reason::MalformedGoal);
        let reached = scan.number()?;
        scan.phrase(",")?;
        let target = scan.number()?;
        scan.phrase(EQUAL.trim_end())?;
        scan.end()?;
        if reached != self.target || target != self.target {
            return Err(Reason::WrongGoal);
        }
        if self.numbers == [self.target] { Ok(()) } else { Err(Reason::GoalNotReached) }
    }
}

/// The words of a phrase: a line that has them speaks of the thing even where its punctuation is off.
fn keyword(phrase: &str) -> &str {
    phrase.trim_end_matches([':', ' '])
}

/// The pattern of [`telling_words`] that speaks of a tried operation; the other speaks of the goal.
const TRIED: PatternID = PatternID::ZERO;

/// Finds the lines that are read. One search for both words costs a fraction of two in every line.
fn telling_words() -> &'static AhoCorasick {
    static WORDS: OnceLock<AhoCorasick> = OnceLock::new();
    WORDS.get_or_init(|| AhoCorasick::new([keyword(EXPLORE), GOAL]).expect("two short words"))
}

/// Reads one line from the left; `malformed` is the reason when it does not go on as it must.
struct Scan<'a> {
    rest: &'a str,
    malformed: Reason,
}

impl<'a> Scan<'a> {
    fn new(rest: &'a str, malformed: Reason) -> Scan<'a> {
        Scan { rest, malformed }
    }

    fn phrase(&mut self, phrase: &str) -> Result<(), Reason> {
        self.rest = self.rest.strip_prefix(phrase).ok_or(self.malformed)?;
        Ok(())
    }

    /// Leading zeros are harmless in a number that is only compared.
    fn number(&mut self) -> Result<Number, Reason> {
        let len = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        match len {
            0 => Err(self.malformed),
            // A 128-bit number takes several times as long to read, and nearly all are small.
            1..=18 => digits.parse::<u64>().map(Number::from).map_err(|_| Reason::NumberTooLong),
            19..=MAX_DIGITS => digits.parse().map_err(|_| Reason::NumberTooLong),
            _ => Err(Reason::NumberTooLong),
        }
    }

    fn list(&mut self) -> Result<Vec<Number>, Reason> {
        // Room for nearly all lists.
        let mut numbers = Vec::with_capacity(MAX_NUMBERS);
        numbers.push(self.number()?);
        while let Some(rest) = self.rest.strip_prefix(COMMA) {
            self.rest = rest;
            numbers.push(self.number()?);
        }
        Ok(numbers)
    }

    fn op(&mut self) -> Result<Op, Reason> {
        let op = self.rest.bytes().next().and_then(Op::from_symbol).ok_or(self.malformed)?;
        self.rest = &self.rest[1..];
        Ok(op)
    }

    fn end(&self) -> Result<(), Reason> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed) }
    }
}
