//! The writing half of the grammar: appends whole lines to a byte buffer.
//!
//! Everything written is ASCII. Nodes are named by their path of child indices from the root, whose path is empty.

use super::*;
use crate::problem::{Number, Step};

/// A text under construction.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// What a joined child came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildResult<'a> {
    /// No solution.
    Failed,
    /// Reached the goal; the summary it wrote, one line break at its end.
    Solved(&'a str),
    /// Cancelled because a sibling had won.
    Cancelled,
}

impl Writer {
    /// An empty text with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(capacity) }
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("written text is ASCII")
    }

    /// The finished text.
    pub fn into_string(self) -> String {
        String::from_utf8(self.bytes).expect("written text is ASCII")
    }

    /// Length so far in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A phrase or any other text.
    pub fn phrase(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A number in decimal.
    pub fn number(&mut self, n: Number) {
        match u32::try_from(n) {
            Ok(n) if n < 10_000 => {
                let n = n as usize;
                let digits = &DECIMALS[4 * n..4 * n + 4];
                let len = if n < 10 { 1 } else if n < 100 { 2 } else if n < 1000 { 3 } else { 4 };
                self.bytes.extend_from_slice(&digits[4 - len..]);
            }
            _ => self.phrase(&n.to_string()),
        }
    }

    /// `a+b=c`
    pub fn step(&mut self, step: &Step) {
        self.number(step.left);
        self.bytes.push(step.op.symbol());
        self.number(step.right);
        self.bytes.push(b'=');
        self.number(step.result);
    }

    /// `0`, `0,2`, `0,2,1`
    pub fn id(&mut self, path: &[u16]) {
        self.bytes.push(b'0');
        for &k in path {
            self.bytes.push(b',');
            self.number(Number::from(k));
        }
    }

    fn list(&mut self, numbers: &[Number]) {
        for (i, &n) in numbers.iter().enumerate() {
            if i > 0 {
                self.phrase(COMMA);
            }
            self.number(n);
        }
    }

    fn again(&mut self, range: std::ops::Range<usize>) {
        self.bytes.extend_from_within(range);
    }

    /// A state without its line break, as prompts end.
    pub fn open_state(&mut self, target: Number, numbers: &[Number], steps: &[Step]) {
        self.phrase(STATE);
        self.number(target);
        self.phrase(TARGET_LIST);
        self.list(numbers);
        match steps.split_first() {
            None => self.phrase(NO_OPERATIONS),
            Some((first, rest)) => {
                self.phrase(OPERATIONS);
                self.step(first);
                for step in rest {
                    self.phrase(NEXT_OPERATION);
                    self.step(step);
                }
                self.phrase(END_OPERATIONS);
            }
        }
    }

    /// A state line.
    pub fn state(&mut self, target: Number, numbers: &[Number], steps: &[Step]) {
        self.open_state(target, numbers, steps);
        self.bytes.push(b'\n');
    }

    /// The line of a tried step; `numbers` are those left after it.
    pub fn explore(&mut self, step: &Step, numbers: &[Number]) {
        self.explore_parts(step, numbers);
    }

    fn explore_parts(&mut self, step: &Step, numbers: &[Number]) -> [std::ops::Range<usize>; 2] {
        self.phrase(EXPLORE);
        let start = self.len();
        self.step(step);
        let equation = start..self.len();
        self.phrase(RESULTING);
        let start = self.len();
        self.list(numbers);
        let list = start..self.len();
        self.phrase(END_LIST);
        [equation, list]
    }

    /// The two lines of a step whose node is kept: the tried step and the generated node.
    pub fn explore_and_keep(&mut self, target: Number, step: &Step, numbers: &[Number], path: &[u16]) {
        let [equation, list] = self.explore_parts(step, numbers);
        self.phrase(GENERATED);
        self.id(path);
        self.phrase(NODE_TARGET);
        self.number(target);
        self.phrase(TARGET_LIST);
        self.again(list);
        self.phrase(OPERATION);
        self.again(equation);
        self.bytes.push(b'\n');
    }

    /// The line of a last number that misses the target.
    pub fn dead(&mut self, number: Number, target: Number) {
        self.number(number);
        self.bytes.push(b',');
        self.number(target);
        self.phrase(UNEQUAL);
    }

    /// The line of a last number that is the target.
    pub fn goal(&mut self, target: Number) {
        self.number(target);
        self.bytes.push(b',');
        self.number(target);
        self.phrase(EQUAL);
    }

    /// A move line.
    pub fn move_to(&mut self, path: &[u16]) {
        self.phrase(MOVE);
        self.id(path);
        self.bytes.push(b'\n');
    }

    /// The start line of a serial sub search.
    pub fn start_sub_search(&mut self, level: usize, path: &[u16]) {
        self.phrase(START_SUB_SEARCH);
        self.number(level as Number);
        self.phrase(START_MOVE);
        self.id(path);
        self.bytes.push(b'\n');
    }

    /// The exit line of a serial sub search.
    pub fn exit_sub_search(&mut self, level: usize) {
        self.phrase(EXIT_SUB_SEARCH);
        self.number(level as Number);
        self.bytes.push(b'\n');
    }

    /// A spawn block for children at these nodes.
    pub fn spawn_block<'a>(&mut self, level: usize, paths: impl Iterator<Item = &'a [u16]>) {
        self.phrase(SPAWN);
        for (index, path) in paths.enumerate() {
            self.phrase(SPAWN_CHILD);
            self.number(index as Number);
            self.phrase(AT_LEVEL);
            self.number(level as Number);
            self.phrase(SPAWN_MOVE);
            self.id(path);
            self.bytes.push(b'\n');
        }
        self.phrase(END_SPAWN);
    }

    /// A join block: for each child its node id as written, and what it came back with.
    pub fn join_block<'a>(&mut self, level: usize, results: impl Iterator<Item = (&'a str, ChildResult<'a>)>) {
        self.phrase(JOIN);
        for (index, (id, result)) in results.enumerate() {
            self.phrase(match result {
                ChildResult::Failed => CHILD_FAILED,
                ChildResult::Solved(_) => CHILD_SOLVED,
                ChildResult::Cancelled => CHILD_CANCELLED,
            });
            self.number(index as Number);
            self.phrase(AT_LEVEL);
            self.number(level as Number);
            self.phrase(AT_NODE);
            self.phrase(id);
            self.phrase(END_RESULT);
            if let ChildResult::Solved(summary) = result {
                self.phrase(summary);
            }
        }
        self.phrase(END_JOIN);
    }
}

/// The decimals of 0 to 9999, four bytes each, leading zeros included.
static DECIMALS: [u8; 40_000] = decimals();

const fn decimals() -> [u8; 40_000] {
    let mut table = [0; 40_000];
    let mut n = 0;
    while n < 10_000 {
        table[4 * n] = b'0' + (n / 1000) as u8;
        table[4 * n + 1] = b'0' + (n / 100 % 10) as u8;
        table[4 * n + 2] = b'0' + (n / 10 % 10) as u8;
        table[4 * n + 3] = b'0' + (n % 10) as u8;
        n += 1;
    }
    table
}
