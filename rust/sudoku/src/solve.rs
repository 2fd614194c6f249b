//! The exhaustive solver, and problems: grids with one solution.

use crate::Error;
use crate::grid::Grid;

/// The first solutions of a grid in the order of their digits, at most `limit`.
pub fn solutions(grid: Grid, limit: usize) -> Vec<Grid> {
    let mut found = Vec::new();
    if grid.is_consistent() {
        fill(grid, limit, &mut found);
    }
    found
}

fn fill(grid: Grid, limit: usize, found: &mut Vec<Grid>) {
    if found.len() >= limit {
        return;
    }
    let Some((candidates, cell)) =
        grid.empty().map(|cell| (grid.candidates(cell), cell)).min_by_key(|(candidates, _)| candidates.count())
    else {
        found.push(grid);
        return;
    };
    for digit in candidates.iter() {
        fill(grid.with(cell, digit), limit, found);
    }
}

/// The largest sum that is read; none of a full grid is greater.
pub const MAX_SUM: u8 = 16;

/// A grid, and maybe the sum of its diagonal, with exactly one solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    grid: Grid,
    sum: Option<u8>,
    solution: Grid,
}

impl Problem {
    /// A checked problem.
    ///
    /// # Errors
    /// [`Error::Solutions`] for one that has no solution or several.
    pub fn new(grid: Grid, sum: Option<u8>) -> Result<Problem, Error> {
        let mut solved = solutions(grid, usize::MAX);
        solved.retain(|solution| sum.is_none_or(|sum| solution.sum() == sum));
        match solved[..] {
            [solution] => Ok(Problem { grid, sum, solution }),
            [] => Err(Error::Solutions("none")),
            _ => Err(Error::Solutions("several")),
        }
    }

    /// What is given.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The sum of the diagonal, where it is given.
    pub fn sum(&self) -> Option<u8> {
        self.sum
    }

    /// The solution.
    pub fn solution(&self) -> Grid {
        self.solution
    }
}
