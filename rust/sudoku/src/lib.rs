//! Sudoku of 4 by 4 cells: each row, column and box of 2 by 2 holds the digits 1 to 4.
//!
//! A grid of this size that has one solution is solved by filling cells with one candidate, without any search. So most
//! problems have several completions and one clue more, as in little killer sudoku: the sum of the falling diagonal,
//! which one of them alone has.
//!
//! `grid <- solve <- {sample, text} <- {search <- fault, check, inspect}`: grids and candidates at the bottom, the
//! exhaustive solver on them, problem streams and the one grammar of lines, then the teacher, the verdicts and the
//! diagnostics, and where a text leaves the teacher's. No I/O.

pub mod check;
pub mod fault;
pub mod grid;
pub mod inspect;
pub mod lesson;
pub mod sample;
pub mod search;
pub mod solve;
pub mod text;

pub use grid::Grid;
pub use solve::Problem;

/// What can be wrong with a problem, or with what is asked of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Text that is no grid.
    #[error("no grid of 4 by 4 cells, each a digit from 1 to 4 or empty")]
    NoGrid,
    /// Another number of solutions than one.
    #[error("a problem has one solution, not {0}")]
    Solutions(&'static str),
    /// A sum that is no number up to the greatest.
    #[error("no sum from 0 to {}", solve::MAX_SUM)]
    NoSum,
    /// A first line that is no budget.
    #[error("no budget of children of up to 6 digits")]
    NoBudget,
    /// A parameter out of its range.
    #[error("{0}")]
    Parameter(String),
}
