//! Problems, arithmetic, heuristics and the exhaustive solver. Their comments are what `help` shows in Python.

use apr_countdown::arithmetic;
use apr_countdown::heuristic::{Heuristic, Score, Scorer};
use apr_countdown::{Number, search, solve, trace};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::raise;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Problem>()?;
    module.add_class::<Solution>()?;
    module.add_function(wrap_pyfunction!(combine, module)?)?;
    module.add_function(wrap_pyfunction!(heuristic, module)?)?;
    module.add_function(wrap_pyfunction!(expand, module)?)?;
    module.add_function(wrap_pyfunction!(solve_one, module)?)?;
    module.add_function(wrap_pyfunction!(solve_shortest, module)?)?;
    module.add_function(wrap_pyfunction!(solve_all, module)?)?;
    module.add_function(wrap_pyfunction!(can_reach, module)?)?;
    module.add_function(wrap_pyfunction!(solution, module)?)?;
    Ok(())
}

/// Numbers, told in a word where they are none.
fn whole_numbers(value: &Bound<'_, PyAny>) -> PyResult<Vec<Number>> {
    value.extract().map_err(|error: PyErr| {
        if !error.is_instance_of::<PyTypeError>(value.py()) {
            return error;
        }
        let shown =
            value.repr().map_or_else(|_| "another object".to_owned(), |text| text.to_string_lossy().into_owned());
        let shown: String = shown.chars().take(40).collect();
        PyTypeError::new_err(format!("a list of whole numbers, not {shown}"))
    })
}

/// A Countdown problem: reach `target` from `numbers`, each used exactly once (paper, section 4.1).
///
/// One to six whole numbers from 0 on and a target from 1 on, ValueError for others; OverflowError beyond 128 bits. Equal
/// problems have the same numbers in the same order.
#[pyclass(frozen, eq, hash, from_py_object, module = "apr")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Problem(pub(super) apr_countdown::Problem);

#[pymethods]
impl Problem {
    #[new]
    fn new(#[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>, target: Number) -> PyResult<Problem> {
        apr_countdown::Problem::new(numbers, target).map(Problem).map_err(raise)
    }

    /// The numbers, in the order in which they were given.
    #[getter]
    fn numbers(&self) -> Vec<Number> {
        self.0.numbers().to_vec()
    }

    /// What is to be reached.
    #[getter]
    fn target(&self) -> Number {
        self.0.target()
    }

    fn __repr__(&self) -> String {
        format!("Problem({:?}, {})", self.0.numbers(), self.0.target())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (Vec<Number>, Number)) {
        (py.get_type::<Problem>().into_any(), (self.numbers(), self.target()))
    }
}

/// A way to reach a target, as `solve` and its siblings find it.
#[pyclass(frozen, module = "apr")]
pub(super) struct Solution(solve::Solution);

#[pymethods]
impl Solution {
    /// The equations in order, such as "66/3=22".
    #[getter]
    fn steps(&self) -> Vec<String> {
        self.0.steps.iter().map(ToString::to_string).collect()
    }

    /// All of it as one expression with as few parentheses as it needs.
    #[getter]
    fn expression(&self) -> String {
        self.0.expression()
    }

    fn __repr__(&self) -> String {
        format!("Solution({})", self.0.expression())
    }
}

/// What two whole numbers make, a before b in the state: (result, "a+b=c") for each operation, at most four.
///
/// In the traces' order: sum, product, difference (larger less smaller), and the quotient of the larger by the smaller
/// where it has no rest (the authors' code). ValueError for a negative number, OverflowError for a result beyond 128 bits.
#[pyfunction]
pub(super) fn combine(a: Number, b: Number) -> PyResult<Vec<(Number, String)>> {
    let steps = arithmetic::combine(a, b).map_err(raise)?;
    Ok(steps.iter().map(|step| (step.result, step.to_string())).collect())
}

pub(super) fn heuristic_kind(kind: &str) -> PyResult<Heuristic> {
    match kind {
        "mult" => Ok(Heuristic::Mult),
        "sum" => Ok(Heuristic::Sum),
        _ => Err(PyValueError::new_err(format!("kind is \"mult\" or \"sum\", not {kind:?}"))),
    }
}

#[derive(IntoPyObject)]
pub(super) enum AnyScore {
    Integer(Number),
    Real(f64),
}

impl From<Score> for AnyScore {
    fn from(score: Score) -> AnyScore {
        match score {
            Score::Integer(value) => AnyScore::Integer(value),
            Score::Real(value) => AnyScore::Real(value),
        }
    }
}

/// How far some numbers are from a target, 0 at best: what the searches rank states by (the authors' code).
///
/// kind "mult" sums each number's distance to the nearest divisor of the target (of 2 or more) and is an int; "sum" is the
/// mean distance to the target, a float. ValueError for another kind or, with "mult", a target below 2 or too large to be
/// divided; OverflowError for a sum beyond 128 bits.
#[pyfunction]
pub(super) fn heuristic(
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
    kind: &str,
) -> PyResult<AnyScore> {
    let scorer = Scorer::new(heuristic_kind(kind)?, target).map_err(raise)?;
    scorer.score(&numbers).map(AnyScore::from).map_err(raise)
}

/// A state's best children, at most `beam_size`: (score, numbers, equation), the best first (the authors' code). Errors as
/// those of `heuristic`.
#[pyfunction]
pub(super) fn expand(
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
    kind: &str,
    beam_size: usize,
) -> PyResult<Vec<(AnyScore, Vec<Number>, String)>> {
    let kept = search::expand(&numbers, target, heuristic_kind(kind)?, beam_size).map_err(raise)?;
    Ok(kept.into_iter().map(|(score, numbers, step)| (score.into(), numbers, step.to_string())).collect())
}

/// A solution found by exhaustive search, or None: then there is none.
///
/// Each number is used once; it is the first one in the order of the authors' generator. ValueError for what
/// is no `Problem`; OverflowError for combinations that may pass 128 bits.
#[pyfunction]
#[pyo3(name = "solve")]
pub(super) fn solve_one(
    py: Python<'_>,
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
) -> PyResult<Option<Solution>> {
    py.detach(|| solve::solve(&numbers, target)).map(|s| s.map(Solution)).map_err(raise)
}

/// The solution with the shortest expression, the first by alphabet among equals; None if there is none. Errors as those
/// of `solve`.
#[pyfunction]
pub(super) fn solve_shortest(
    py: Python<'_>,
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
) -> PyResult<Option<Solution>> {
    py.detach(|| solve::solve_shortest(&numbers, target)).map(|s| s.map(Solution)).map_err(raise)
}

/// Every distinct solution as a list, the shortest expression first; empty if there is none.
///
/// Solutions are the same if they consist of the same equations in any order, where a+b and b+a, a*b and b*a are the same.
/// Errors as those of `solve`.
#[pyfunction]
pub(super) fn solve_all(
    py: Python<'_>,
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
) -> PyResult<Vec<Solution>> {
    let all = py.detach(|| solve::solve_all(&numbers, target)).map_err(raise)?;
    Ok(all.into_iter().map(Solution).collect())
}

/// Whether some numbers, each used once, make the target. Errors as those of `solve`.
#[pyfunction]
pub(super) fn can_reach(
    py: Python<'_>,
    #[pyo3(from_py_with = whole_numbers)] numbers: Vec<Number>,
    target: Number,
) -> PyResult<bool> {
    py.detach(|| solve::can_reach(&numbers, target)).map_err(raise)
}

/// The solution that equations such as "66/3=22" make of a problem; None unless they hold, use each number once and
/// reach the target.
#[pyfunction]
pub(super) fn solution(problem: &Problem, steps: Vec<String>) -> Option<Solution> {
    let steps: Vec<_> = steps.iter().map(|text| trace::read::step(text)).collect::<Option<_>>()?;
    solve::Solution::replay(problem.0.numbers(), problem.0.target(), &steps).map(Solution)
}
