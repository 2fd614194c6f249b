//! The streams of problems.

use apr_countdown::Error;
use apr_countdown::sample::{self, ProblemSpace, Split};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::problem::Problem;
use super::raise;
use crate::parallel;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ProblemStream>()?;
    module.add_class::<SeenProblems>()?;
    Ok(())
}

fn split(name: &str) -> PyResult<Split> {
    match name {
        "train" => Ok(Split::Train),
        "val" => Ok(Split::Val),
        "test" => Ok(Split::Test),
        _ => Err(PyValueError::new_err(format!("split is \"train\", \"val\" or \"test\", not {name:?}"))),
    }
}

/// An endless stream of solvable problems: item i is the same for every worker.
#[pyclass(frozen, module = "apr._core")]
pub(super) struct ProblemStream(sample::ProblemStream);

pub(super) fn space(
    numbers: (usize, usize),
    max_number: u64,
    target: (u64, u64),
    split_name: &str,
    held_out_targets: Vec<u64>,
) -> PyResult<ProblemSpace> {
    Ok(ProblemSpace {
        min_numbers: numbers.0,
        max_numbers: numbers.1,
        max_number,
        min_target: target.0,
        max_target: target.1,
        split: split(split_name)?,
        held_out_targets,
        ..ProblemSpace::default()
    })
}

#[pymethods]
impl ProblemStream {
    #[new]
    #[pyo3(signature = (seed, *, numbers=(4, 4), max_number=99, target=(10, 100), split="train", held_out_targets=vec![]))]
    fn new(
        seed: u64,
        numbers: (usize, usize),
        max_number: u64,
        target: (u64, u64),
        split: &str,
        held_out_targets: Vec<u64>,
    ) -> PyResult<ProblemStream> {
        let space = space(numbers, max_number, target, split, held_out_targets)?;
        space.stream(seed).map(ProblemStream).map_err(raise)
    }

    /// Problems `start` to `start + count`.
    fn get(&self, py: Python<'_>, start: u64, count: u64) -> PyResult<Vec<Problem>> {
        let problems: Result<Vec<_>, Error> =
            py.detach(|| parallel::map(start..start.saturating_add(count), |i| self.0.get(i).map(Problem)));
        problems.map_err(raise)
    }
}

/// The problems that came before: some twenty bytes each.
#[pyclass(module = "apr._core")]
pub(super) struct SeenProblems(sample::SeenProblems);

#[pymethods]
impl SeenProblems {
    #[new]
    fn new() -> SeenProblems {
        SeenProblems(sample::SeenProblems::default())
    }

    /// Take a problem in; whether it is new.
    fn add(&mut self, problem: &Problem) -> PyResult<bool> {
        self.0.add(&problem.0).map_err(raise)
    }
}
