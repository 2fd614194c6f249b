//! `apr-sudoku` for Python.

use std::collections::BTreeMap;

use apr_sudoku::check::{self, Reason};
use apr_sudoku::lesson::LessonPlan;
use apr_sudoku::sample::{ProblemSpace, Split};
use apr_sudoku::search::{self, Method, Part, Search};
use apr_sudoku::{Error, Grid, Problem, fault, inspect, text};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Adds everything to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SudokuProblem>()?;
    module.add_function(wrap_pyfunction!(sudoku_problems, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_lesson, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_read_prompt, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_vote, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_label, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_line_kind, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_inspect, module)?)?;
    module.add_function(wrap_pyfunction!(sudoku_fault, module)?)
}

/// The one map from this crate's errors to Python's.
fn raise(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A grid, and maybe the sum of its diagonal, with exactly one solution.
#[pyclass(frozen, eq, hash, from_py_object, module = "apr._core")]
#[derive(Clone, PartialEq, Eq, Hash)]
struct SudokuProblem(Problem);

/// Whether an answer is right, why, and the rows of one that is.
type Verdict = (bool, String, Vec<String>);

#[pymethods]
impl SudokuProblem {
    #[new]
    fn new(text: &Bound<'_, PyString>) -> PyResult<SudokuProblem> {
        text::read_problem(&text.to_string_lossy()).map(SudokuProblem).map_err(raise)
    }

    /// Its line.
    #[getter]
    fn text(&self) -> String {
        text::prompt(&self.0, None)
    }

    #[getter]
    fn rows(&self) -> Vec<String> {
        rows(&self.0.grid())
    }

    #[getter]
    fn sum(&self) -> Option<u8> {
        self.0.sum()
    }

    /// The rows of its solution.
    #[getter]
    fn solution(&self) -> Vec<String> {
        rows(&self.0.solution())
    }

    fn prompt(&self, budget: Option<u32>) -> String {
        text::prompt(&self.0, budget)
    }

    /// The teacher's search.
    fn search(&self, serial: bool, budget: Option<u32>) -> Thread {
        search::search(&self.0, method(serial), budget).into()
    }

    fn judge(&self, answer: Option<&Bound<'_, PyString>>) -> Verdict {
        verdict(check::check(&self.0, answer.map(|answer| answer.to_string_lossy()).as_deref()))
    }

    fn judge_child(&self, prompt: &Bound<'_, PyString>, claim: &Bound<'_, PyString>) -> Verdict {
        verdict(check::check_child(&self.0, &prompt.to_string_lossy(), &claim.to_string_lossy()))
    }

    /// The grid that a thread begins with, as its line, and whether the solution completes it; None: there is none.
    fn first_grid(&self, prompt: &Bound<'_, PyString>) -> Option<(String, bool)> {
        let grid = text::first_grid(&prompt.to_string_lossy())?;
        Some((text::grid(&grid), self.0.solution().keeps(&grid)))
    }

    fn __repr__(&self) -> String {
        format!("SudokuProblem({:?})", self.text())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (String,)) {
        (py.get_type::<SudokuProblem>().into_any(), (self.text(),))
    }
}

fn rows(grid: &Grid) -> Vec<String> {
    grid.rows().map(text::digits).collect()
}

fn verdict(judged: Result<Grid, Reason>) -> Verdict {
    match judged {
        Ok(grid) => (true, Reason::Solved.to_string(), rows(&grid)),
        Err(reason) => (false, reason.to_string(), Vec::new()),
    }
}

/// Prompt, parts and answer.
#[derive(IntoPyObject)]
struct Thread(String, Vec<Piece>, Option<String>);

/// A line with its kind, or children.
#[derive(IntoPyObject)]
enum Piece {
    Line((String, &'static str)),
    Children(Vec<Thread>),
}

impl From<Search> for Thread {
    fn from(search: Search) -> Thread {
        let pieces = search.parts.into_iter().map(|part| match part {
            Part::Line(line, kind) => Piece::Line((line, kind.name())),
            Part::Children(children) => Piece::Children(children.into_iter().map(Thread::from).collect()),
        });
        Thread(search.prompt, pieces.collect(), search.answer.map(|grid| text::grid(&grid)))
    }
}

fn method(serial: bool) -> Method {
    if serial { Method::Serial } else { Method::Threads }
}

fn split_named(name: &str) -> PyResult<Split> {
    match name {
        "train" => Ok(Split::Train),
        "val" => Ok(Split::Val),
        "test" => Ok(Split::Test),
        _ => Err(PyValueError::new_err(format!("split is \"train\", \"val\" or \"test\", not {name:?}"))),
    }
}

#[pyfunction]
fn sudoku_problems(
    py: Python<'_>,
    split: &str,
    seed: u64,
    start: u64,
    count: u64,
    givens: Vec<usize>,
    plain: f64,
) -> PyResult<Vec<SudokuProblem>> {
    let space = ProblemSpace { split: split_named(split)?, givens, plain };
    let items = start..start.saturating_add(count);
    py.detach(|| items.map(|item| space.get(seed, item).map(SudokuProblem)).collect::<Result<_, _>>()).map_err(raise)
}

#[pyfunction]
#[pyo3(signature = (serial, split, seed, index, *, givens, plain, budgets, budgeted))]
#[expect(clippy::too_many_arguments, reason = "named in Python")]
fn sudoku_lesson(
    serial: bool,
    split: &str,
    seed: u64,
    index: u64,
    givens: Vec<usize>,
    plain: f64,
    budgets: Vec<u32>,
    budgeted: f64,
) -> PyResult<Thread> {
    let space = ProblemSpace { split: split_named(split)?, givens, plain };
    let plan = LessonPlan { method: method(serial), space, budgets, budgeted };
    plan.get(seed, index).map(Thread::from).map_err(raise)
}

#[pyfunction]
fn sudoku_read_prompt(prompt: &Bound<'_, PyString>) -> PyResult<(SudokuProblem, Option<u32>)> {
    let (problem, budget) = text::read_prompt(&prompt.to_string_lossy()).map_err(raise)?;
    Ok((SudokuProblem(problem), budget))
}

/// The line of the grid that an answer votes for.
#[pyfunction]
fn sudoku_vote(answer: &Bound<'_, PyString>) -> Option<String> {
    check::vote(&answer.to_string_lossy()).map(|grid| text::grid(&grid))
}

#[pyfunction]
fn sudoku_label(prompt: &Bound<'_, PyString>) -> Option<String> {
    text::label(&prompt.to_string_lossy())
}

/// What a line that threads write tells; None if it is no such line.
#[pyfunction]
fn sudoku_line_kind(line: &Bound<'_, PyString>) -> Option<&'static str> {
    Some(match text::kind(&line.to_string_lossy())? {
        text::Kind::State => "state",
        text::Kind::Step => "step",
        text::Kind::Dead => "dead",
    })
}

#[pyfunction]
fn sudoku_inspect(
    py: Python<'_>,
    prompt: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
) -> BTreeMap<&'static str, usize> {
    let (prompt, text) = (prompt.to_string_lossy(), text.to_string_lossy());
    let found = py.detach(|| inspect::inspect(&prompt, &text));
    BTreeMap::from([
        ("unreadable", found.unreadable),
        ("cells", found.cells),
        ("wrong_candidates", found.wrong_candidates),
        ("short_scans", found.short_scans),
        ("grids", found.grids),
        ("wrong_grids", found.wrong_grids),
        ("sums", found.sums),
        ("wrong_sums", found.wrong_sums),
        ("picks", found.picks),
        ("wrong_picks", found.wrong_picks),
        ("tries", found.tries),
        ("wrong_tries", found.wrong_tries),
    ])
}

/// The first character of a thread's text that its teacher would not write there, and the rest of the line that it would;
/// None if there is none. All before it is ASCII, so bytes are characters.
#[pyfunction]
fn sudoku_fault(py: Python<'_>, text: &Bound<'_, PyString>, serial: bool) -> Option<(usize, Option<String>)> {
    let text = text.to_string_lossy();
    let method = if serial { Method::Serial } else { Method::Threads };
    let found = py.detach(|| fault::first_fault(&text, method))?;
    Some((found.at, found.right))
}
