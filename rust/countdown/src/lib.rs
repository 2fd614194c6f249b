//! Countdown: reach a target from a few numbers with + - * /, each number used once.
//!
//! `problem <- {solve, search} <- trace <- check`: problems and exact arithmetic at the bottom, the exhaustive solver
//! and the teacher's searches on them, the one grammar of traces, and the verdicts on solutions and traces. No I/O.

pub mod arithmetic;
pub mod check;
pub mod cost;
pub mod heuristic;
pub mod inspect;
pub mod lesson;
pub mod llama2;
pub mod problem;
pub mod sample;
pub mod search;
pub mod solve;
pub mod tokens;
pub mod trace;
mod trial;

pub use problem::{Error, Number, Op, Problem, Step};
