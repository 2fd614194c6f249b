//! Counter-based randomness, and the problem streams made from it.
//!
//! Draw k of item i of stream s under a seed is a pure function of (seed, s, i, k): any item can be made by any worker
//! at any time and comes out the same. Splits are a hash of (sorted numbers, target), so they never overlap.

use std::collections::HashSet;

pub use apr_random::Random;
use apr_random::{GOLDEN_RATIO, mix};

use crate::problem::{Error, MAX_NUMBERS, Number, Problem};
use crate::solve;

/// The stream that a seeded search of item `item` draws from.
pub fn for_search(seed: u64, item: u64) -> Random {
    Random::new(seed, SEARCH_STREAM, item)
}

/// The random choices of a search.
pub trait Choices {
    /// A permutation of `0..n`: position p of the shuffled list takes element `order[p]` of the list before.
    fn shuffle(&mut self, n: usize, order: &mut Vec<usize>) -> Result<(), Error>;

    /// Whether a node is promising, true with `probability`.
    fn promising(&mut self, probability: f64) -> Result<bool, Error>;

    /// How many steps a wave has: one of `sizes`, of which there is at least one.
    fn wave(&mut self, sizes: &[usize]) -> Result<usize, Error>;
}

impl Choices for Random {
    fn shuffle(&mut self, n: usize, order: &mut Vec<usize>) -> Result<(), Error> {
        order.clear();
        order.extend(0..n);
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        Ok(())
    }

    fn promising(&mut self, probability: f64) -> Result<bool, Error> {
        Ok(self.unit() < probability)
    }

    fn wave(&mut self, sizes: &[usize]) -> Result<usize, Error> {
        Ok(sizes[self.below(sizes.len() as u64) as usize])
    }
}

/// One recorded choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A permutation.
    Shuffle(Vec<usize>),
    /// A promising draw.
    Promising(bool),
    /// The size of a wave.
    Wave(usize),
}

/// Recorded choices, played in order.
#[derive(Clone, Debug)]
pub struct Recorded {
    choices: Vec<Choice>,
    next: usize,
}

impl Recorded {
    /// Plays `choices` from the first on.
    pub fn new(choices: Vec<Choice>) -> Recorded {
        Recorded { choices, next: 0 }
    }

    /// How many choices were not asked for yet.
    pub fn remaining(&self) -> usize {
        self.choices.len() - self.next
    }

    fn take(&mut self, wanted: &str) -> Result<(usize, Choice), Error> {
        let index = self.next;
        let choice = self.choices.get(index).cloned();
        self.next += 1;
        choice
            .map(|c| (index, c))
            .ok_or_else(|| Error::Choice { index, what: format!("the search wants {wanted}, the record has ended") })
    }
}

impl Choices for Recorded {
    fn shuffle(&mut self, n: usize, order: &mut Vec<usize>) -> Result<(), Error> {
        let (index, choice) = self.take("a shuffle")?;
        let Choice::Shuffle(recorded) = choice else {
            return Err(Error::Choice { index, what: "the search wants a shuffle".into() });
        };
        let mut seen = recorded.clone();
        seen.sort_unstable();
        if !seen.iter().copied().eq(0..n) {
            return Err(Error::Choice { index, what: format!("{recorded:?} does not shuffle {n} children") });
        }
        *order = recorded;
        Ok(())
    }

    fn promising(&mut self, _probability: f64) -> Result<bool, Error> {
        match self.take("a draw")? {
            (_, Choice::Promising(value)) => Ok(value),
            (index, _) => Err(Error::Choice { index, what: "the search wants a draw".into() }),
        }
    }

    fn wave(&mut self, _sizes: &[usize]) -> Result<usize, Error> {
        match self.take("the size of a wave")? {
            (_, Choice::Wave(size)) if size > 0 => Ok(size),
            (index, _) => Err(Error::Choice { index, what: "the search wants the size of a wave".into() }),
        }
    }
}

/// Which part of all problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// 14 of 16 problems.
    Train,
    /// 1 of 16.
    Val,
    /// 1 of 16.
    Test,
}

impl Split {
    /// The split that a problem belongs to; the order of its numbers does not matter.
    pub fn of(numbers: &[Number], target: Number) -> Split {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        let mut hash = mix(target as u64);
        for n in sorted {
            hash = mix(hash.wrapping_add(GOLDEN_RATIO) ^ n as u64);
        }
        match hash >> 60 {
            0 => Split::Val,
            1 => Split::Test,
            _ => Split::Train,
        }
    }
}

/// Which problems a stream holds; the defaults are the reference generator's.
#[derive(Clone, Debug)]
pub struct ProblemSpace {
    /// Fewest numbers.
    pub min_numbers: usize,
    /// Most numbers.
    pub max_numbers: usize,
    /// Numbers are uniform in `1..=max_number`.
    pub max_number: u64,
    /// Smallest target.
    pub min_target: u64,
    /// Largest target.
    pub max_target: u64,
    /// The split.
    pub split: Split,
    /// Targets kept out of the train and val splits; the test split then has these only.
    pub held_out_targets: Vec<u64>,
    /// Probability that numbers are drawn as a search meets them after a product: the last a multiple of the first, the
    /// others small. Exact quotients of large numbers are rare otherwise.
    pub multiples: f64,
    /// Probability that a problem is made one without a solution: its last number is changed a little.
    pub missed: f64,
}

impl Default for ProblemSpace {
    fn default() -> ProblemSpace {
        ProblemSpace {
            min_numbers: 4,
            max_numbers: 4,
            max_number: 99,
            min_target: 10,
            max_target: 100,
            split: Split::Train,
            held_out_targets: Vec::new(),
            multiples: 0.0,
            missed: 0.0,
        }
    }
}

/// The largest of numbers that are drawn as after a product, but for the product.
const MAX_FACTOR: u64 = 100;
/// By how much a number is changed at most where a problem is to have no solution, in ones or in tens.
const MAX_CHANGE: u64 = 20;
const PROBLEM_STREAM: u64 = 1;
const SEARCH_STREAM: u64 = 3;
/// After so many draws without a problem of the split, numbers are taken never to reach the target there.
const MAX_DRAWS: u64 = 1_000_000;
/// Draws for each choice of numbers there is, where that is less: hardly one stays undrawn.
const DRAWS_A_CHOICE: u64 = 20;
/// After so many targets, or so many draws for them, the space is taken to hold no problem.
const MAX_TARGETS: u64 = 32;
const MAX_ALL_DRAWS: u64 = 16 * MAX_DRAWS;

impl ProblemSpace {
    fn targets(&self) -> Result<Vec<u64>, Error> {
        let invalid = |what: String| Err(Error::Parameter(what));
        if self.min_numbers < 2 || self.max_numbers > MAX_NUMBERS || self.min_numbers > self.max_numbers {
            return invalid(format!(
                "numbers per problem run from 2 to {MAX_NUMBERS}, not {} to {}",
                self.min_numbers, self.max_numbers
            ));
        }
        if self.max_number < 1 || self.max_number > 1_000_000 {
            return invalid(format!("max_number is 1 to 1000000, not {}", self.max_number));
        }
        if self.min_target < 1 || self.min_target > self.max_target || self.max_target > 1_000_000 {
            return invalid(format!("targets run from 1 to 1000000, not {} to {}", self.min_target, self.max_target));
        }
        if !(0.0..=1.0).contains(&self.multiples) || (self.multiples > 0.0 && self.max_number < 2) {
            return invalid(format!("multiples is a probability and needs numbers above 1, not {}", self.multiples));
        }
        if !(0.0..=1.0).contains(&self.missed) {
            return invalid(format!("missed is a probability, not {}", self.missed));
        }
        let held_out = |t: &u64| self.held_out_targets.contains(t);
        let only_held_out = self.split == Split::Test && !self.held_out_targets.is_empty();
        let targets: Vec<u64> = (self.min_target..=self.max_target).filter(|t| held_out(t) == only_held_out).collect();
        if targets.is_empty() {
            return invalid("no target is left".into());
        }
        Ok(targets)
    }

    /// Draws numbers.
    fn draw(&self, numbers: &mut [Number], random: &mut Random) {
        let last = numbers.len() - 1;
        for n in &mut *numbers {
            *n = Number::from(random.between(1, self.max_number));
        }
        if self.multiples > 0.0 && random.unit() < self.multiples {
            for n in &mut *numbers {
                *n = Number::from(random.between(1, MAX_FACTOR.min(self.max_number)));
            }
            let divisor = random.between(1, MAX_FACTOR.min(self.max_number / 2));
            let quotient = random.between(2, MAX_FACTOR.min(self.max_number / divisor));
            numbers[0] = Number::from(divisor);
            numbers[last] = Number::from(divisor * quotient);
        }
    }

    /// A stream of problems of this space under a seed.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a space that is empty or out of range.
    pub fn stream(&self, seed: u64) -> Result<ProblemStream, Error> {
        Ok(ProblemStream { targets: self.targets()?, space: self.clone(), seed })
    }
}

/// The endless stream of problems of a space, solvable but for those that are to be missed.
#[derive(Clone, Debug)]
pub struct ProblemStream {
    space: ProblemSpace,
    targets: Vec<u64>,
    seed: u64,
}

impl ProblemStream {
    /// Problem `item` of the stream: target and count of numbers are drawn once, numbers until the problem is
    /// solvable and of the split, or, if it is to be missed, is not any more. Where none seem to be, another target is drawn.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the space seems to hold no such problem.
    pub fn get(&self, item: u64) -> Result<Problem, Error> {
        let space = &self.space;
        let mut random = Random::new(self.seed, PROBLEM_STREAM, item);
        let mut left = MAX_ALL_DRAWS;
        for _ in 0..MAX_TARGETS {
            let target = Number::from(self.targets[random.below(self.targets.len() as u64) as usize]);
            let count = random.between(space.min_numbers as u64, space.max_numbers as u64) as usize;
            let choices = space.max_number.saturating_pow(count as u32);
            let draws = choices.saturating_mul(DRAWS_A_CHOICE).min(MAX_DRAWS).min(left);
            left -= draws;
            let mut numbers = vec![0; count];
            let missed = space.missed > 0.0 && random.unit() < space.missed;
            for _ in 0..draws {
                space.draw(&mut numbers, &mut random);
                if Split::of(&numbers, target) != space.split || !solve::can_reach(&numbers, target)? {
                    continue;
                }
                if missed {
                    // Tens as often as ones: the last digit alone must not give it away.
                    let unit = if random.unit() < 0.5 { 1 } else { 10 };
                    let change = Number::from(unit * random.between(1, MAX_CHANGE));
                    let last = &mut numbers[count - 1];
                    *last = if random.unit() < 0.5 { *last + change } else { (*last - change).max(1) };
                    if Split::of(&numbers, target) != space.split || solve::can_reach(&numbers, target)? {
                        continue;
                    }
                }
                return Problem::new(numbers, target);
            }
        }
        Err(Error::Parameter("no target seems to have a solvable problem in this split".into()))
    }
}

/// The problems of a stream that came before, exactly, in some twenty bytes each where all numbers are small.
#[derive(Clone, Debug, Default)]
pub struct SeenProblems {
    /// Those whose numbers and target have [`SMALL_BITS`].
    small: HashSet<u64>,
    /// The others.
    large: HashSet<[u64; 3]>,
}

const SMALL_BITS: u32 = 9;
const LARGE_BITS: u32 = 20;

impl SeenProblems {
    /// Takes a problem in, whatever the order of its numbers; whether it is new.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a number that no problem space has.
    pub fn add(&mut self, problem: &Problem) -> Result<bool, Error> {
        let mut values = problem.numbers().to_vec();
        values.sort_unstable();
        values.push(problem.target());
        // A leading one tells how many values follow.
        let pack = |values: &[Number], bits: u32| values.iter().fold(1, |key, &n| key << bits | n as u64);
        let all_bits = values.iter().fold(0, |all, n| all | n);
        if all_bits >> SMALL_BITS == 0 {
            return Ok(self.small.insert(pack(&values, SMALL_BITS)));
        }
        if all_bits >> LARGE_BITS != 0 {
            return Err(Error::Parameter(format!("a number has more than {LARGE_BITS} bits")));
        }
        let mut key = [0; 3];
        for (part, values) in key.iter_mut().zip(values.chunks(3)) {
            *part = pack(values, LARGE_BITS);
        }
        Ok(self.large.insert(key))
    }
}
