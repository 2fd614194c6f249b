//! Counter-based randomness, and the problem streams made from it.
//!
//! Item i of stream s under a seed is a pure function of (seed, s, i). The split of a problem is a hash of its grid with
//! the digits renamed in the order of their coming, so no problem of one split is one of another with other digits or
//! another sum.

pub use apr_random::Random;
use apr_random::{GOLDEN_RATIO, mix};

use crate::Error;
use crate::grid::{CELLS, Grid};
use crate::solve::{Problem, solutions};

const PROBLEM_STREAM: u64 = 1;
/// No grid with fewer givens has one solution, and searches among its completions are long.
pub const MIN_GIVENS: usize = 4;
/// Completions of a grid whose sum is given: more make long searches.
const COMPLETIONS: std::ops::RangeInclusive<usize> = 2..=5;
/// After so many draws without a problem of the split there is taken to be none. The rarest kind needs some hundreds.
const MAX_DRAWS: usize = 1_000_000;

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
    /// The split that a grid belongs to.
    pub fn of(grid: &Grid) -> Split {
        let mut names = [0; 5];
        let mut next = 0;
        let mut packed = 0;
        for &digit in grid.cells() {
            let name = &mut names[usize::from(digit)];
            if digit != 0 && *name == 0 {
                next += 1;
                *name = next;
            }
            packed = packed << 3 | *name;
        }
        match mix(mix(packed).wrapping_add(GOLDEN_RATIO)) >> 60 {
            0 => Split::Val,
            1 => Split::Test,
            _ => Split::Train,
        }
    }
}

/// Which problems a stream holds.
#[derive(Clone, Debug)]
pub struct ProblemSpace {
    /// The split.
    pub split: Split,
    /// How many cells are given: one of these, and one that stands here twice comes twice as often.
    pub givens: Vec<usize>,
    /// The share of problems without a sum, which need no search. Those with one do.
    pub plain: f64,
}

impl ProblemSpace {
    /// Problem `item` under a seed: the number of givens is drawn once, a solution and cells of it until nothing else
    /// completes them, or no other completion has its sum, and they are of the split.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a space that is out of range, or seems to be empty.
    pub fn get(&self, seed: u64, item: u64) -> Result<Problem, Error> {
        self.draw(&mut Random::new(seed, PROBLEM_STREAM, item))
    }

    pub(crate) fn draw(&self, random: &mut Random) -> Result<Problem, Error> {
        if self.givens.is_empty() || self.givens.iter().any(|count| !(MIN_GIVENS..CELLS - 4).contains(count)) {
            return Err(Error::Parameter(format!("givens are numbers from {MIN_GIVENS} to {}", CELLS - 5)));
        }
        let count = self.givens[random.below(self.givens.len() as u64) as usize];
        let plain = random.unit() < self.plain;
        for _ in 0..MAX_DRAWS {
            let solution = solution(random);
            let mut cells: [usize; CELLS] = std::array::from_fn(|cell| cell);
            shuffle(random, &mut cells);
            let digits = solution.cells();
            let grid = cells[..count].iter().fold(Grid::default(), |grid, &cell| grid.with(cell, digits[cell]));
            if Split::of(&grid) != self.split {
                continue;
            }
            let sum = (!plain).then(|| solution.sum());
            if (plain || COMPLETIONS.contains(&solutions(grid, COMPLETIONS.end() + 1).len()))
                && let Ok(problem) = Problem::new(grid, sum)
            {
                return Ok(problem);
            }
        }
        Err(Error::Parameter(format!("no problem of {count} givens is in this split")))
    }
}

/// One of the 288 full grids, each as likely: the first row and what completes it.
fn solution(random: &mut Random) -> Grid {
    let mut row = [1, 2, 3, 4];
    shuffle(random, &mut row);
    let grid = row.iter().zip(0..).fold(Grid::default(), |grid, (&digit, cell)| grid.with(cell, digit));
    let completed = solutions(grid, usize::MAX);
    completed[random.below(completed.len() as u64) as usize]
}

/// Into a random order.
fn shuffle<T>(random: &mut Random, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}
