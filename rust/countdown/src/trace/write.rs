//! The writing half of the grammar: appends whole lines to a byte buffer.
//!
//! What is written here is ASCII. Nodes are named by their path of child indices from the root, whose path is empty.
//! The buffer is longer than its text: numbers and short repetitions are copied in blocks of fixed size, which costs a
//! fraction of a copy of unknown length, and what is past the text's end is overwritten later.

use std::ops::Range;

use super::*;
use crate::arithmetic::Value;
use crate::problem::{Number, Step};

/// A text under construction.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Where the text ends in `bytes`.
    len: usize,
}

/// Repetitions up to this length are copied as a block of it.
const BLOCK: usize = 32;

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
        Writer { bytes: vec![0; capacity], len: 0 }
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        let text = &self.bytes[..self.len];
        debug_assert!(std::str::from_utf8(text).is_ok());
        // SAFETY: only whole strings and ASCII are appended, and `cut` goes back to where the text ended before one.
        // A trace is read as text after every line of it was written; looking at each byte again costs a 25th of it.
        unsafe { std::str::from_utf8_unchecked(text) }
    }

    /// The finished text.
    pub fn into_string(mut self) -> String {
        self.bytes.truncate(self.len);
        String::from_utf8(self.bytes).expect("texts are appended whole")
    }

    /// Length so far in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what follows the first `len` bytes.
    pub(crate) fn cut(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The next `more` bytes after the text, which then count as written.
    #[inline(always)]
    fn next(&mut self, more: usize) -> &mut [u8] {
        let start = self.len;
        let end = start + more;
        if end > self.bytes.len() {
            self.grow(end);
        }
        self.len = end;
        &mut self.bytes[start..end]
    }

    // Out of line, as `large_number` is: kept apart, the common way needs no registers saved.
    #[cold]
    fn grow(&mut self, needed: usize) {
        self.bytes.resize(needed.max(2 * self.bytes.len()).max(4096), 0);
    }

    /// A phrase or any other text.
    #[inline(always)]
    pub fn phrase(&mut self, text: &str) {
        self.next(text.len()).copy_from_slice(text.as_bytes());
    }

    /// Another text.
    pub(crate) fn append(&mut self, other: &Writer) {
        self.next(other.len).copy_from_slice(&other.bytes[..other.len]);
    }

    #[inline(always)]
    fn sign(&mut self, sign: u8) {
        self.next(1)[0] = sign;
    }

    /// A number in decimal.
    #[inline(always)]
    pub fn number(&mut self, n: impl Value) {
        self.number_after(&[], n);
    }

    /// Up to four signs and a number in decimal, written as one block.
    #[inline(always)]
    fn number_after(&mut self, signs: &[u8], n: impl Value) {
        match n.try_into().ok().filter(|&n: &u32| n < 10_000) {
            Some(n) => {
                let mut block = [0; 8];
                block[..signs.len()].copy_from_slice(signs);
                block[signs.len()..signs.len() + 4].copy_from_slice(&DECIMALS[n as usize]);
                self.next(8).copy_from_slice(&block);
                // Counted, not looked up: what follows need not wait for the table.
                let digits = 1 + usize::from(n > 9) + usize::from(n > 99) + usize::from(n > 999);
                self.len -= 8 - signs.len() - digits;
            }
            None => {
                self.next(signs.len()).copy_from_slice(signs);
                self.large_number(n);
            }
        }
    }

    #[cold]
    fn large_number<V: Value>(&mut self, n: V) {
        if n < V::default() {
            return self.phrase(&n.into().to_string());
        }
        let (high, low) = (n / V::from(10_000), n % V::from(10_000));
        self.number(high);
        let low: u32 = low.try_into().ok().expect("below 10,000");
        for unit in [1000, 100, 10, 1] {
            self.sign(b'0' + (low / unit % 10) as u8);
        }
    }

    /// `a+b=c`
    pub fn step(&mut self, step: &Step<impl Value>) {
        self.number(step.left);
        self.number_after(&[step.op.symbol()], step.right);
        self.number_after(b"=", step.result);
    }

    /// `0`, `0,2`, `0,2,1`
    pub fn id(&mut self, path: &[u16]) {
        self.sign(b'0');
        for &k in path {
            self.number_after(b",", i64::from(k));
        }
    }

    fn list(&mut self, numbers: &[impl Value]) {
        let Some((&first, others)) = numbers.split_first() else { return };
        self.number(first);
        for &n in others {
            self.number_after(COMMA.as_bytes(), n);
        }
    }

    /// A part of the text once more.
    #[inline(always)]
    fn again(&mut self, part: Range<usize>) {
        let start = self.len;
        if part.len() <= BLOCK {
            self.next(BLOCK);
            self.bytes.copy_within(part.start..part.start + BLOCK, start);
            self.len = start + part.len();
        } else {
            self.next(part.len());
            self.bytes.copy_within(part, start);
        }
    }

    /// A state without its line break, as prompts end.
    pub fn open_state<'a, V: Value + 'a>(
        &mut self,
        target: V,
        numbers: &[V],
        steps: impl IntoIterator<Item = &'a Step<V>>,
    ) {
        self.phrase(STATE);
        self.number(target);
        self.phrase(TARGET_LIST);
        self.list(numbers);
        let mut steps = steps.into_iter();
        let Some(first) = steps.next() else {
            return self.phrase(NO_OPERATIONS);
        };
        self.phrase(OPERATIONS);
        self.step(first);
        for step in steps {
            self.phrase(NEXT_OPERATION);
            self.step(step);
        }
        self.phrase(END_OPERATIONS);
    }

    /// A state line.
    pub fn state<'a, V: Value + 'a>(&mut self, target: V, numbers: &[V], steps: impl IntoIterator<Item = &'a Step<V>>) {
        self.open_state(target, numbers, steps);
        self.sign(b'\n');
    }

    /// The line of a tried step; `numbers` are those left after it.
    pub fn explore<V: Value>(&mut self, step: &Step<V>, numbers: &[V]) {
        self.explore_parts(step, numbers);
    }

    fn explore_parts<V: Value>(&mut self, step: &Step<V>, numbers: &[V]) -> [Range<usize>; 2] {
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

    /// A line of a trial, which tells whether a quotient is one.
    pub fn trial(&mut self, step: &Step<impl Value>) {
        self.step(step);
        self.sign(b'\n');
    }

    /// The two lines of a step whose node is kept: the tried step and the generated node.
    pub fn explore_and_keep<V: Value>(&mut self, target: V, step: &Step<V>, numbers: &[V], path: &[u16]) {
        let [equation, list] = self.explore_parts(step, numbers);
        self.node(target, |line| line.id(path), |line| line.again(list), |line| line.again(equation));
    }

    /// The line of a generated node, by itself.
    pub(crate) fn generated<V: Value>(&mut self, target: V, step: &Step<V>, numbers: &[V], id: &str) {
        self.node(target, |line| line.phrase(id), |line| line.list(numbers), |line| line.step(step));
    }

    #[inline(always)]
    fn node(
        &mut self,
        target: impl Value,
        id: impl FnOnce(&mut Writer),
        numbers: impl FnOnce(&mut Writer),
        step: impl FnOnce(&mut Writer),
    ) {
        self.phrase(GENERATED);
        id(self);
        self.phrase(NODE_TARGET);
        self.number(target);
        self.phrase(TARGET_LIST);
        numbers(self);
        self.phrase(OPERATION);
        step(self);
        self.sign(b'\n');
    }

    /// The line of a last number that misses the target.
    pub fn dead<V: Value>(&mut self, number: V, target: V) {
        self.number(number);
        self.number_after(b",", target);
        self.phrase(UNEQUAL);
    }

    /// The line of a last number that is the target.
    pub fn goal(&mut self, target: impl Value) {
        self.number(target);
        self.number_after(b",", target);
        self.phrase(EQUAL);
    }

    /// A move line.
    pub fn move_to(&mut self, path: &[u16]) {
        self.phrase(MOVE);
        self.id(path);
        self.sign(b'\n');
    }

    /// The start line of a serial sub search.
    pub fn start_sub_search(&mut self, level: usize, path: &[u16]) {
        self.phrase(START_SUB_SEARCH);
        self.number(level as Number);
        self.phrase(START_MOVE);
        self.id(path);
        self.sign(b'\n');
    }

    /// The exit line of a serial sub search.
    pub fn exit_sub_search(&mut self, level: usize) {
        self.phrase(EXIT_SUB_SEARCH);
        self.number(level as Number);
        self.sign(b'\n');
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
            self.sign(b'\n');
        }
        self.phrase(END_SPAWN);
    }

    /// A join block: for each child its node id as written, and what it came back with.
    pub fn join_block<'a>(&mut self, level: usize, results: impl Iterator<Item = (&'a str, ChildResult<'a>)>) {
        self.phrase(JOIN);
        for (index, (id, result)) in results.enumerate() {
            let head = match result {
                ChildResult::Failed => CHILD_FAILED,
                ChildResult::Solved(_) => CHILD_SOLVED,
                ChildResult::Cancelled => CHILD_CANCELLED,
            };
            self.open_result(head, index, level);
            self.phrase(id);
            self.phrase(END_RESULT);
            if let ChildResult::Solved(summary) = result {
                self.phrase(summary);
            }
        }
        self.phrase(END_JOIN);
    }

    /// The line of a child in a join block, up to its node id; `head` says what it came back with.
    pub(crate) fn open_result(&mut self, head: &str, index: usize, level: usize) {
        self.phrase(head);
        self.number(index as Number);
        self.phrase(AT_LEVEL);
        self.number(level as Number);
        self.phrase(AT_NODE);
    }
}

/// The decimals of 0 to 9999, digits first.
static DECIMALS: [[u8; 4]; 10_000] = decimals();

const fn decimals() -> [[u8; 4]; 10_000] {
    let mut table = [[0; 4]; 10_000];
    let mut n = 0;
    while n < table.len() {
        let (mut rest, mut digit) = (
            n,
            if n > 999 {
                4
            } else if n > 99 {
                3
            } else if n > 9 {
                2
            } else {
                1
            },
        );
        while digit > 0 {
            digit -= 1;
            table[n][digit] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        n += 1;
    }
    table
}
