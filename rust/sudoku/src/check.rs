//! Verdicts on answers: of the main thread, and of a child. Any text gets one.

use std::fmt;

use crate::grid::Grid;
use crate::solve::Problem;
use crate::text::{first_grid, read_grid};

/// What decides a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The grid is full and valid, keeps what was given and has the sum.
    Solved,
    /// The thread gives no answer.
    NoAnswer,
    /// The answer is no grid.
    NoGrid,
    /// The child's prompt holds no grid.
    NoPrompt,
    /// A cell is empty.
    Empty,
    /// A given digit has changed.
    GivenChanged,
    /// A digit stands twice in a row, column or box.
    Clash,
    /// The diagonal has another sum.
    WrongSum,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Solved => "solved",
            Reason::NoAnswer => "no answer",
            Reason::NoGrid => "the answer is no grid of 4 by 4 cells",
            Reason::NoPrompt => "no readable grid to start from",
            Reason::Empty => "a cell is empty",
            Reason::GivenChanged => "a given digit has changed",
            Reason::Clash => "a digit stands twice in a row, column or box",
            Reason::WrongSum => "the diagonal has another sum",
        })
    }
}

/// Judges an answer to a problem: the solution, or why it is none.
///
/// # Errors
/// The first reason that it is wrong for.
pub fn check(problem: &Problem, answer: Option<&str>) -> Result<Grid, Reason> {
    complete(&problem.grid(), problem.sum(), answer.ok_or(Reason::NoAnswer)?)
}

/// Judges a child's claim by the grid in its own prompt and the problem's sum.
///
/// # Errors
/// The first reason that it is wrong for.
pub fn check_child(problem: &Problem, prompt: &str, claim: &str) -> Result<Grid, Reason> {
    complete(&first_grid(prompt).ok_or(Reason::NoPrompt)?, problem.sum(), claim)
}

/// The grid that an answer votes for: one that is full and valid.
pub fn vote(answer: &str) -> Option<Grid> {
    complete(&Grid::default(), None, answer).ok()
}

fn complete(givens: &Grid, sum: Option<u8>, answer: &str) -> Result<Grid, Reason> {
    let grid = read_grid(answer).ok_or(Reason::NoGrid)?;
    if !grid.is_full() {
        Err(Reason::Empty)
    } else if !grid.keeps(givens) {
        Err(Reason::GivenChanged)
    } else if !grid.is_consistent() {
        Err(Reason::Clash)
    } else if sum.is_some_and(|sum| sum != grid.sum()) {
        Err(Reason::WrongSum)
    } else {
        Ok(grid)
    }
}
