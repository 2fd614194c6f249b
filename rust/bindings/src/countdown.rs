//! `apr-countdown` for Python. Work of any length runs with the interpreter lock released.

use apr_countdown::arithmetic;
use apr_countdown::check;
use apr_countdown::heuristic::{Heuristic, Score, Scorer};
use apr_countdown::lesson::{LessonPlan, LessonStream, Teacher, TraceStream};
use apr_countdown::llama2;
use apr_countdown::sample::{Choice, ProblemSpace, Random, Recorded, Split};
use apr_countdown::search::{self, Method};
use apr_countdown::solve;
use apr_countdown::tokens;
use apr_countdown::trace;
use apr_countdown::trace::read::{self, ChildHead};
use apr_countdown::trace::write::{ChildResult, Writer};
use apr_countdown::{Error, Number};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rayon::prelude::*;

pyo3::create_exception!(apr, GrammarError, PyValueError, "A text that the grammar of traces does not allow.");

/// Adds everything to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("GrammarError", module.py().get_type::<GrammarError>())?;
    module.add("SPAWN_OPEN", trace::SPAWN)?;
    module.add("SPAWN_END", trace::END_SPAWN)?;
    module.add("JOIN_OPEN", trace::JOIN)?;
    module.add_class::<Problem>()?;
    module.add_class::<Solution>()?;
    module.add_class::<Trace>()?;
    module.add_class::<Verdict>()?;
    module.add_class::<ProblemStream>()?;
    module.add_class::<Traces>()?;
    module.add_class::<Lessons>()?;
    module.add_class::<Tokenizer>()?;
    module.add_function(wrap_pyfunction!(combine, module)?)?;
    module.add_function(wrap_pyfunction!(heuristic, module)?)?;
    module.add_function(wrap_pyfunction!(solve_one, module)?)?;
    module.add_function(wrap_pyfunction!(solve_all, module)?)?;
    module.add_function(wrap_pyfunction!(solve_shortest, module)?)?;
    module.add_function(wrap_pyfunction!(can_reach, module)?)?;
    module.add_function(wrap_pyfunction!(expand, module)?)?;
    module.add_function(wrap_pyfunction!(search_trace, module)?)?;
    module.add_function(wrap_pyfunction!(llama2_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(prompt, module)?)?;
    module.add_function(wrap_pyfunction!(child_prompts, module)?)?;
    module.add_function(wrap_pyfunction!(join, module)?)?;
    module.add_function(wrap_pyfunction!(join_block, module)?)?;
    module.add_function(wrap_pyfunction!(search_result, module)?)?;
    module.add_function(wrap_pyfunction!(check_solution, module)?)?;
    module.add_function(wrap_pyfunction!(check_trace, module)?)?;
    module.add_function(wrap_pyfunction!(check_claim, module)?)?;
    Ok(())
}

/// The one map from this crate's errors to Python's.
fn raise(error: Error) -> PyErr {
    match error {
        Error::Overflow => PyOverflowError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// A Countdown problem: reach `target` from `numbers`, each used exactly once.
#[pyclass(frozen, eq, hash, from_py_object, module = "apr")]
#[derive(Clone, PartialEq, Eq, Hash)]
struct Problem(apr_countdown::Problem);

#[pymethods]
impl Problem {
    #[new]
    fn new(numbers: Vec<Number>, target: Number) -> PyResult<Problem> {
        apr_countdown::Problem::new(numbers, target).map(Problem).map_err(raise)
    }

    #[getter]
    fn numbers(&self) -> Vec<Number> {
        self.0.numbers().to_vec()
    }

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

/// A way to reach a target.
#[pyclass(frozen, module = "apr")]
struct Solution(solve::Solution);

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

/// A verdict with its reason in plain words.
#[pyclass(frozen, module = "apr")]
struct Verdict {
    #[pyo3(get)]
    correct: bool,
    #[pyo3(get)]
    reason: String,
    /// The equations of the accepted path in order; empty if nothing was accepted.
    #[pyo3(get)]
    steps: Vec<String>,
}

#[pymethods]
impl Verdict {
    fn __bool__(&self) -> bool {
        self.correct
    }

    fn __repr__(&self) -> String {
        format!("Verdict(correct={}, reason={:?})", if self.correct { "True" } else { "False" }, self.reason)
    }
}

impl From<check::Verdict> for Verdict {
    fn from(verdict: check::Verdict) -> Verdict {
        Verdict {
            correct: verdict.correct,
            reason: verdict.reason.to_string(),
            steps: verdict.steps.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A written search.
#[pyclass(frozen, eq, module = "apr")]
#[derive(PartialEq, Eq)]
struct Trace(search::Trace);

#[pymethods]
impl Trace {
    /// The main thread's texts: one more than there were spawn rounds.
    #[getter]
    fn main_calls(&self) -> Vec<&str> {
        self.0.main_calls.iter().map(String::as_str).collect()
    }

    /// Per spawn round the children's traces in index order.
    #[getter]
    fn children(&self) -> Vec<Vec<Trace>> {
        self.0.children.iter().map(|round| round.iter().cloned().map(Trace).collect()).collect()
    }

    /// Whether the goal was reached.
    #[getter]
    fn solved(&self) -> bool {
        self.0.solved
    }

    /// The final text of the main thread.
    #[getter]
    fn text(&self) -> &str {
        self.0.text()
    }
}

fn method(
    name: &str,
    beam_size: usize,
    child_beam_size: usize,
    promising: Option<f64>,
    order: &str,
) -> PyResult<Method> {
    Ok(match (name, order) {
        ("apr", _) => Method::Apr { beam_size, child_beam_size, promising: promising.unwrap_or(0.9) },
        ("sos+", _) => Method::SosPlus { beam_size, promising: promising.unwrap_or(0.5) },
        ("sos", "bfs") => Method::SosBfs { beam_size },
        ("sos", "dfs") => Method::SosDfs { beam_size },
        ("sos", _) => {
            return Err(PyValueError::new_err(format!("order is \"bfs\" or \"dfs\", not {order:?}")));
        }
        _ => return Err(unknown_method(name)),
    })
}

fn unknown_method(name: &str) -> PyErr {
    PyValueError::new_err(format!("method is \"sos\", \"sos+\" or \"apr\", not {name:?}"))
}

#[derive(FromPyObject)]
enum AnyChoice {
    Promising(bool),
    Shuffle(Vec<usize>),
}

#[pyfunction]
#[pyo3(name = "search", signature = (problem, method_name, beam_size, child_beam_size, promising, order, kind, seed, choices))]
#[allow(clippy::too_many_arguments)]
fn search_trace(
    py: Python<'_>,
    problem: &Problem,
    method_name: &str,
    beam_size: usize,
    child_beam_size: usize,
    promising: Option<f64>,
    order: &str,
    kind: &str,
    seed: u64,
    choices: Option<Vec<AnyChoice>>,
) -> PyResult<Trace> {
    let kind = heuristic_kind(kind)?;
    let method = method(method_name, beam_size, child_beam_size, promising, order)?;
    let choices = choices.map(|choices| {
        let choice = |c| match c {
            AnyChoice::Promising(value) => Choice::Promising(value),
            AnyChoice::Shuffle(order) => Choice::Shuffle(order),
        };
        Recorded::new(choices.into_iter().map(choice).collect())
    });
    let trace = py.detach(|| match choices {
        Some(mut recorded) => {
            let trace = search::search(&problem.0, &method, kind, &mut recorded)?;
            match recorded.remaining() {
                0 => Ok(trace),
                n => Err(Error::Parameter(format!("{n} recorded choices are left over"))),
            }
        }
        None => search::search(&problem.0, &method, kind, &mut Random::for_search(seed, 0)),
    });
    trace.map(Trace).map_err(raise)
}

#[pyfunction]
fn combine(a: Number, b: Number) -> PyResult<Vec<(Number, String)>> {
    let steps = arithmetic::combine(a, b).map_err(raise)?;
    Ok(steps.iter().map(|step| (step.result, step.to_string())).collect())
}

fn heuristic_kind(kind: &str) -> PyResult<Heuristic> {
    match kind {
        "mult" => Ok(Heuristic::Mult),
        "sum" => Ok(Heuristic::Sum),
        _ => Err(PyValueError::new_err(format!("kind is \"mult\" or \"sum\", not {kind:?}"))),
    }
}

#[derive(IntoPyObject)]
enum AnyScore {
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

#[pyfunction]
fn heuristic(numbers: Vec<Number>, target: Number, kind: &str) -> PyResult<AnyScore> {
    let scorer = Scorer::new(heuristic_kind(kind)?, target).map_err(raise)?;
    scorer.score(&numbers).map(AnyScore::from).map_err(raise)
}

#[pyfunction]
fn expand(
    numbers: Vec<Number>,
    target: Number,
    kind: &str,
    beam_size: usize,
) -> PyResult<Vec<(AnyScore, Vec<Number>, String)>> {
    let kept = search::expand(&numbers, target, heuristic_kind(kind)?, beam_size).map_err(raise)?;
    Ok(kept.into_iter().map(|(score, numbers, step)| (score.into(), numbers, step.to_string())).collect())
}

#[pyfunction]
#[pyo3(name = "solve")]
fn solve_one(py: Python<'_>, numbers: Vec<Number>, target: Number) -> PyResult<Option<Solution>> {
    py.detach(|| solve::solve(&numbers, target)).map(|s| s.map(Solution)).map_err(raise)
}

#[pyfunction]
fn solve_shortest(py: Python<'_>, numbers: Vec<Number>, target: Number) -> PyResult<Option<Solution>> {
    py.detach(|| solve::solve_shortest(&numbers, target)).map(|s| s.map(Solution)).map_err(raise)
}

#[pyfunction]
fn solve_all(py: Python<'_>, numbers: Vec<Number>, target: Number) -> PyResult<Vec<Solution>> {
    let all = py.detach(|| solve::solve_all(&numbers, target)).map_err(raise)?;
    Ok(all.into_iter().map(Solution).collect())
}

#[pyfunction]
fn can_reach(py: Python<'_>, numbers: Vec<Number>, target: Number) -> PyResult<bool> {
    py.detach(|| solve::can_reach(&numbers, target)).map_err(raise)
}

#[pyfunction]
fn llama2_tokens(text: &Bound<'_, PyString>) -> usize {
    llama2::llama2_tokens(&text.to_string_lossy())
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
struct ProblemStream(apr_countdown::sample::ProblemStream);

fn space(
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
        let problems: Result<Vec<_>, Error> = py
            .detach(|| (start..start + count).into_par_iter().map(|i| self.0.get(i).map(Problem)).collect());
        problems.map_err(raise)
    }
}

/// An endless stream of problems with teacher traces.
#[pyclass(frozen, module = "apr._core")]
struct Traces(TraceStream);

#[pymethods]
impl Traces {
    #[new]
    #[pyo3(signature = (seed, method, *, beam_size, child_beam_size=(1, 1), promising, numbers=(4, 4), max_number=99,
                        target=(10, 100), split="train", held_out_targets=vec![]))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        seed: u64,
        method: &str,
        beam_size: (usize, usize),
        child_beam_size: (usize, usize),
        promising: f64,
        numbers: (usize, usize),
        max_number: u64,
        target: (u64, u64),
        split: &str,
        held_out_targets: Vec<u64>,
    ) -> PyResult<Traces> {
        let teacher = match method {
            "apr" => Teacher::Apr { beam_size, child_beam_size, promising },
            "sos+" => Teacher::SosPlus { beam_size, promising },
            _ => return Err(unknown_method(method)),
        };
        let space = space(numbers, max_number, target, split, held_out_targets)?;
        TraceStream::new(&space, teacher, seed).map(Traces).map_err(raise)
    }

    /// Items `start` to `start + count`: (problem, trace, beam size, child beam size or None, condition).
    #[allow(clippy::type_complexity)]
    fn get(
        &self,
        py: Python<'_>,
        start: u64,
        count: u64,
    ) -> PyResult<Vec<(Problem, Trace, usize, Option<usize>, String)>> {
        let items: Result<Vec<_>, Error> = py.detach(|| {
            let item = |i| {
                let (problem, method, trace) = self.0.get(i)?;
                let condition = apr_countdown::lesson::condition(&method, &trace);
                let (beam, child_beam) = match method {
                    Method::Apr { beam_size, child_beam_size, .. } => (beam_size, Some(child_beam_size)),
                    Method::SosPlus { beam_size, .. }
                    | Method::SosBfs { beam_size }
                    | Method::SosDfs { beam_size } => (beam_size, None),
                };
                Ok((Problem(problem), Trace(trace), beam, child_beam, condition))
            };
            (start..start + count).into_par_iter().map(item).collect()
        });
        items.map_err(raise)
    }
}

/// An endless stream of supervised samples.
#[pyclass(frozen, module = "apr._core")]
struct Lessons(LessonStream);

#[pymethods]
impl Lessons {
    #[new]
    #[pyo3(signature = (seed, parts, *, conditioned, children, cancelled, max_tokens))]
    fn new(
        seed: u64,
        parts: Vec<(f64, PyRef<'_, Traces>)>,
        conditioned: f64,
        children: usize,
        cancelled: f64,
        max_tokens: usize,
    ) -> PyResult<Lessons> {
        let parts = parts.iter().map(|(weight, traces)| (*weight, traces.0.clone())).collect();
        let plan = LessonPlan { conditioned, children, cancelled, max_tokens };
        LessonStream::new(parts, plan, seed).map(Lessons).map_err(raise)
    }

    /// The samples of lessons `start` to `start + count`: per lesson a list of (token ids, loss mask), a byte a token.
    #[allow(clippy::type_complexity)]
    fn get<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        count: u64,
    ) -> PyResult<Vec<Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>>> {
        let lessons: Result<Vec<Vec<(Vec<u8>, Vec<u8>)>>, Error> = py.detach(|| {
            let lesson = |i| {
                let samples = self.0.get(i)?;
                Ok(samples
                    .into_iter()
                    .map(|s| {
                        // The built-in vocabulary has fewer than 256 entries.
                        let ids = s.token_ids.iter().map(|&id| id as u8).collect();
                        (ids, s.loss_mask.iter().map(|&m| u8::from(m)).collect())
                    })
                    .collect())
            };
            (start..start + count).into_par_iter().map(lesson).collect()
        });
        let rows = |lesson: Vec<(Vec<u8>, Vec<u8>)>| {
            lesson.iter().map(|(ids, mask)| (PyBytes::new(py, ids), PyBytes::new(py, mask))).collect()
        };
        Ok(lessons.map_err(raise)?.into_iter().map(rows).collect())
    }
}

/// The compact tokenizer of traces.
#[pyclass(frozen, module = "apr")]
struct Tokenizer(tokens::Tokenizer);

#[pymethods]
impl Tokenizer {
    /// The built-in vocabulary.
    #[new]
    fn new() -> Tokenizer {
        Tokenizer(tokens::Tokenizer::default())
    }

    /// Reads the text of a `tokenizer.json` of this kind; ValueError for any other.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Tokenizer> {
        tokens::Tokenizer::from_json(text).map(Tokenizer).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// The text of the `tokenizer.json` that holds this vocabulary.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// Token ids of any text; no begin or end token is added.
    fn encode(&self, text: &Bound<'_, PyString>) -> Vec<u32> {
        self.0.encode(&text.to_string_lossy())
    }

    /// The text of token ids; ValueError for an id outside the vocabulary.
    #[pyo3(signature = (ids, skip_special=false))]
    fn decode(&self, ids: Vec<u32>, skip_special: bool) -> PyResult<String> {
        self.0.decode(&ids, skip_special).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// The id of a special token, a phrase or a character; None if it is no token.
    fn token_id(&self, token: &str) -> Option<u32> {
        self.0.id(token)
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    #[getter]
    fn pad(&self) -> Option<u32> {
        self.0.id(tokens::PAD)
    }

    #[getter]
    fn bos(&self) -> Option<u32> {
        self.0.id(tokens::BOS)
    }

    #[getter]
    fn eos(&self) -> Option<u32> {
        self.0.id(tokens::EOS)
    }
}

fn raise_grammar(error: read::GrammarError) -> PyErr {
    GrammarError::new_err(error.to_string())
}

/// The prompt of a main thread, without a line break at its end.
#[pyfunction]
#[pyo3(signature = (problem, method, budget=None))]
fn prompt(problem: &Problem, method: &str, budget: Option<u64>) -> PyResult<String> {
    let mut text = Writer::default();
    let parallel = match method {
        "apr" => true,
        "sos" | "sos+" => false,
        _ => return Err(unknown_method(method)),
    };
    if let Some(budget) = budget {
        text.phrase(if parallel { trace::CHILD_BUDGET } else { trace::TOKEN_BUDGET });
        text.number(Number::from(budget));
        text.phrase(" ");
    }
    if parallel {
        text.move_to(&[]);
    }
    text.open_state(problem.0.target(), problem.0.numbers(), &[]);
    Ok(text.into_string())
}

#[pyfunction]
#[pyo3(signature = (parent_text, budget=None, shared=false))]
fn child_prompts(
    parent_text: &Bound<'_, PyString>,
    budget: Option<u32>,
    shared: bool,
) -> PyResult<Vec<String>> {
    let head = match budget {
        None => ChildHead::Bare,
        Some(budget) if shared => ChildHead::SharedBudget(budget),
        Some(budget) => ChildHead::Budget(budget),
    };
    read::child_prompts(&parent_text.to_string_lossy(), head).map_err(raise_grammar)
}

#[pyfunction]
fn join(parent_text: &Bound<'_, PyString>, child_texts: Vec<Bound<'_, PyString>>) -> PyResult<String> {
    let texts: Vec<_> = child_texts.iter().map(|text| text.to_string_lossy()).collect();
    let outcomes: Vec<_> = texts.iter().map(|text| read::ChildOutcome::Finished(text)).collect();
    read::join(&parent_text.to_string_lossy(), &outcomes, 1).map_err(raise_grammar)
}

/// The join block alone: what stands in place of the spawn block at the end of `parent_text`.
#[pyfunction]
#[pyo3(signature = (parent_text, results, cancelled, level))]
fn join_block(
    parent_text: &str,
    results: Vec<Option<String>>,
    cancelled: Vec<usize>,
    level: usize,
) -> PyResult<String> {
    let lines: Vec<_> = results.iter().map(|r| r.as_ref().map(|summary| format!("{summary}\n"))).collect();
    let results: Vec<ChildResult<'_>> = lines
        .iter()
        .enumerate()
        .map(|(index, summary)| match summary {
            _ if cancelled.contains(&index) => ChildResult::Cancelled,
            Some(summary) => ChildResult::Solved(summary),
            None => ChildResult::Failed,
        })
        .collect();
    read::join_block(parent_text, &results, level).map_err(raise_grammar)
}

#[pyfunction]
fn search_result(text: &Bound<'_, PyString>) -> Option<String> {
    read::search_result(&text.to_string_lossy()).map(str::to_owned)
}

#[pyfunction]
fn check_solution(py: Python<'_>, prompt: &Bound<'_, PyString>, text: &Bound<'_, PyString>) -> Verdict {
    let (prompt, text) = (prompt.to_string_lossy(), text.to_string_lossy());
    py.detach(|| check::check_solution(&prompt, &text)).into()
}

#[pyfunction]
fn check_trace(py: Python<'_>, text: &Bound<'_, PyString>) -> Verdict {
    let text = text.to_string_lossy();
    py.detach(|| check::check_trace(&text)).into()
}

#[pyfunction]
fn check_claim(py: Python<'_>, prompt: &Bound<'_, PyString>, text: &Bound<'_, PyString>) -> Verdict {
    let (prompt, text) = (prompt.to_string_lossy(), text.to_string_lossy());
    py.detach(|| check::check_claim(&prompt, &text)).into()
}
