//! The exhaustive solver: one solution, the shortest, all of them, and whether there is any.
//!
//! A state's children are those of the combine rule, in its order, and [`solve`] walks them depth first. What a state
//! can reach does not depend on the order of its numbers, so it is remembered by them sorted.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::arithmetic::Value;
use crate::problem::{Error, MAX_NUMBERS, Number, Op, Step};
use state::{State, Width, key, narrow, steps, wide};

mod solution;
mod state;

pub use solution::{Solution, canonical};

/// The first solution of the depth-first walk over the children in trace order, the one that the reference's generator
/// finds; `None` if there is none.
///
/// # Errors
/// A wrong count of numbers, a negative number, a target below 1, or numbers whose combinations may pass 128 bits.
pub fn solve(numbers: &[Number], target: Number) -> Result<Option<Solution>, Error> {
    fn run<V: Value>(state: State<V>, target: V) -> Option<Vec<Step>> {
        First { target, failed: Set::default(), steps: Vec::new() }.run(state)
    }
    let steps = match Width::of(numbers, target)? {
        Width::Unreachable => None,
        Width::Bits64 => run::<i64>(State::new(numbers), narrow(target)),
        Width::Bits128 => run::<Number>(State::new(numbers), target),
    };
    Ok(steps.map(|steps| Solution { steps, target }))
}

/// Whether the numbers can still reach the target.
///
/// # Errors
/// Those of [`solve`].
pub fn can_reach(numbers: &[Number], target: Number) -> Result<bool, Error> {
    Ok(solve(numbers, target)?.is_some())
}

/// The solution with the shortest expression (every solution has the same number of steps); the first in the order of
/// the alphabet among equals.
///
/// # Errors
/// Those of [`solve`].
pub fn solve_shortest(numbers: &[Number], target: Number) -> Result<Option<Solution>, Error> {
    Ok(solve_all(numbers, target)?.into_iter().next())
}

/// Every distinct solution, the shortest expression first, equals in the order of the alphabet.
///
/// Two solutions are the same if they consist of the same steps in any order, where `a+b` and `b+a`, `a*b` and `b*a`
/// are the same step.
///
/// # Errors
/// Those of [`solve`].
pub fn solve_all(numbers: &[Number], target: Number) -> Result<Vec<Solution>, Error> {
    fn run<V: Value>(state: State<V>, target: V) -> Vec<Vec<Step>> {
        let mut all = All { target, reach: Map::default(), seen: Set::default(), path: Vec::new(), found: Vec::new() };
        all.walk(state);
        all.found
    }
    let found = match Width::of(numbers, target)? {
        Width::Unreachable => Vec::new(),
        Width::Bits64 => run::<i64>(State::new(numbers), narrow(target)),
        Width::Bits128 => run::<Number>(State::new(numbers), target),
    };
    let mut keyed: Vec<(String, Solution)> = found
        .into_iter()
        .map(|steps| Solution { steps, target })
        .map(|solution| (solution.expression(), solution))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    Ok(keyed.into_iter().map(|(_, solution)| solution).collect())
}

/// Smaller states cost less to walk than to look up.
const REMEMBERED: usize = 4;

struct First<V> {
    target: V,
    failed: Set<State<V>>,
    /// The steps of the solution, last first.
    steps: Vec<Step>,
}

impl<V: Value> First<V> {
    fn run(mut self, state: State<V>) -> Option<Vec<Step>> {
        self.walk(state).then(|| {
            self.steps.reverse();
            self.steps
        })
    }

    fn walk(&mut self, state: State<V>) -> bool {
        if let [last] = state.numbers() {
            return *last == self.target;
        }
        let key = (state.len >= REMEMBERED).then(|| state.sorted());
        if key.is_some_and(|key| self.failed.contains(&key)) {
            return false;
        }
        for (i, j) in state.pairs() {
            for step in steps(state.values[i], state.values[j]) {
                let reached =
                    if state.len == 2 { step.result == self.target } else { self.walk(state.child(i, j, step.result)) };
                if reached {
                    self.steps.push(wide(step));
                    return true;
                }
            }
        }
        self.failed.extend(key);
        false
    }
}

struct All<V> {
    target: V,
    reach: Map<State<V>, bool>,
    seen: Set<[Option<(Op, V, V)>; MAX_NUMBERS - 1]>,
    path: Vec<Step<V>>,
    found: Vec<Vec<Step>>,
}

impl<V: Value> All<V> {
    fn walk(&mut self, state: State<V>) {
        if let [last] = state.numbers() {
            if *last == self.target {
                self.record();
            }
            return;
        }
        let previous = self.path.last().map(|step| key(*step));
        let mut walked: Vec<(Op, V, V)> = Vec::new();
        for (i, j) in state.pairs() {
            // Of two neighbouring steps that do not depend on each other only one order is walked.
            let independent = j != state.len - 1;
            for step in steps(state.values[i], state.values[j]) {
                let key = key(step);
                if independent && previous.is_some_and(|previous| key < previous) {
                    continue;
                }
                let child = state.child(i, j, step.result);
                if self.reaches(child) && !walked.contains(&key) {
                    walked.push(key);
                    self.path.push(step);
                    self.walk(child);
                    self.path.pop();
                }
            }
        }
    }

    fn reaches(&mut self, state: State<V>) -> bool {
        if let [last] = state.numbers() {
            return *last == self.target;
        }
        let key = state.sorted();
        if let Some(&known) = self.reach.get(&key) {
            return known;
        }
        let reached = state.pairs().any(|(i, j)| {
            steps(state.values[i], state.values[j]).any(|step| self.reaches(state.child(i, j, step.result)))
        });
        self.reach.insert(key, reached);
        reached
    }

    fn record(&mut self) {
        let mut keys = [None; MAX_NUMBERS - 1];
        for (slot, step) in keys.iter_mut().zip(&self.path) {
            *slot = Some(key(*step));
        }
        keys.sort_unstable();
        if self.seen.insert(keys) {
            self.found.push(self.path.iter().map(|step| wide(*step)).collect());
        }
    }
}

type Set<K> = HashSet<K, BuildHasherDefault<Mixer>>;
type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// A fast hash; a solver's keys come from no adversary.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
