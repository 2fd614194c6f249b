//! The grammar and the judges. Any Python string is taken, lone surrogates included.

use std::collections::BTreeMap;
use std::ops::Range;

use apr_countdown::solve::canonical;
use apr_countdown::trace::read::{self, ChildHead};
use apr_countdown::trace::write::{ChildResult, Writer};
use apr_countdown::{Number, check, inspect as inspection, trace};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::problem::Problem;
use super::unknown_method;

pyo3::create_exception!(apr, GrammarError, PyValueError, "A text that the grammar of traces does not allow.");

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Verdict>()?;
    module.add_function(wrap_pyfunction!(prompt, module)?)?;
    module.add_function(wrap_pyfunction!(child_prompts, module)?)?;
    module.add_function(wrap_pyfunction!(join, module)?)?;
    module.add_function(wrap_pyfunction!(join_block, module)?)?;
    module.add_function(wrap_pyfunction!(search_result, module)?)?;
    module.add_function(wrap_pyfunction!(check_solution, module)?)?;
    module.add_function(wrap_pyfunction!(check_trace, module)?)?;
    module.add_function(wrap_pyfunction!(check_claim, module)?)?;
    module.add_function(wrap_pyfunction!(inspect, module)?)?;
    module.add_function(wrap_pyfunction!(faults, module)?)?;
    module.add_function(wrap_pyfunction!(choices, module)?)?;
    module.add_function(wrap_pyfunction!(decisions, module)?)?;
    module.add_function(wrap_pyfunction!(follows, module)?)?;
    module.add_function(wrap_pyfunction!(first_node, module)?)?;
    module.add_function(wrap_pyfunction!(first_state, module)?)?;
    module.add_function(wrap_pyfunction!(first_width, module)?)?;
    module.add_function(wrap_pyfunction!(claimed_steps, module)?)?;
    module.add_function(wrap_pyfunction!(line_kind, module)?)?;
    module.add_function(wrap_pyfunction!(prompt_budget, module)?)?;
    Ok(())
}

/// What `check_solution` and `check_trace` say, with its reason in plain words. What a task of your own says is an
/// `apr.task.Verdict`.
#[pyclass(frozen, module = "apr")]
pub(super) struct Verdict(check::Verdict);

#[pymethods]
impl Verdict {
    /// Whether it is right; so is the verdict's truth value.
    #[getter]
    fn correct(&self) -> bool {
        self.0.correct
    }

    /// Why, in a few words.
    // Rendered when asked for: a judge of many rollouts reads `correct` alone.
    #[getter]
    fn reason(&self) -> String {
        self.0.reason.to_string()
    }

    /// The equations of the accepted path in order; empty if nothing was accepted.
    #[getter]
    fn steps(&self) -> Vec<String> {
        self.0.steps.iter().map(ToString::to_string).collect()
    }

    fn __bool__(&self) -> bool {
        self.0.correct
    }

    fn __repr__(&self) -> String {
        format!("Verdict(correct={}, reason={:?})", if self.0.correct { "True" } else { "False" }, self.reason())
    }
}

impl From<check::Verdict> for Verdict {
    fn from(verdict: check::Verdict) -> Verdict {
        Verdict(verdict)
    }
}

pub(super) fn raise_grammar(error: read::GrammarError) -> PyErr {
    GrammarError::new_err(error.to_string())
}

/// The prompt of a main thread, without a line break at its end.
#[pyfunction]
#[pyo3(signature = (problem, method, budget=None))]
pub(super) fn prompt(problem: &Problem, method: &str, budget: Option<u64>) -> PyResult<String> {
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

/// The prompts of the children that a text in the traces' language spawns at its end, in the order of their writing (the
/// authors' code).
///
/// With `budget` they begin with a budget of tokens, each its own or an even part of it (`shared`).
/// GrammarError if the text ends in no spawn that can be read.
#[pyfunction]
#[pyo3(signature = (parent_text, budget=None, shared=false))]
pub(super) fn child_prompts(
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

/// The parent's text once its children have ended: a block of what they found stands in place of the spawn (the authors'
/// code).
///
/// `child_texts` are the children's whole texts, in the order of `child_prompts`. GrammarError if the parent's text ends
/// in no spawn of so many children.
#[pyfunction]
pub(super) fn join(parent_text: &Bound<'_, PyString>, child_texts: Vec<Bound<'_, PyString>>) -> PyResult<String> {
    let texts: Vec<_> = child_texts.iter().map(|text| text.to_string_lossy()).collect();
    let outcomes: Vec<_> = texts.iter().map(|text| read::ChildOutcome::Finished(text)).collect();
    read::join(&parent_text.to_string_lossy(), &outcomes, 1).map_err(raise_grammar)
}

/// The join block alone: what stands in place of the spawn block at the end of `parent_text`.
#[pyfunction]
#[pyo3(signature = (parent_text, results, cancelled, level))]
pub(super) fn join_block(
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

/// What the text of a thread claims to have found: what follows its second-to-last mention of the goal; None without two.
/// Nothing is verified: see `check_solution`.
#[pyfunction]
pub(super) fn search_result(text: &Bound<'_, PyString>) -> Option<String> {
    read::search_result(&text.to_string_lossy()).map(str::to_owned)
}

/// Judge a solution: whether the steps in `text` hold, use each number of the first state in `prompt` once and reach its
/// target.
///
/// Any text is taken; what cannot be read is judged wrong, with the reason.
#[pyfunction]
pub(super) fn check_solution(py: Python<'_>, prompt: &Bound<'_, PyString>, text: &Bound<'_, PyString>) -> Verdict {
    let (prompt, text) = (prompt.to_string_lossy(), text.to_string_lossy());
    py.detach(|| check::check_solution(&prompt, &text)).into()
}

/// Judge what a whole trace claims, its prompt included: the solution behind its second-to-last mention of the goal, against
/// its first state (the authors' code). Any text is taken.
#[pyfunction]
pub(super) fn check_trace(py: Python<'_>, text: &Bound<'_, PyString>) -> Verdict {
    let text = text.to_string_lossy();
    py.detach(|| check::check_trace(&text)).into()
}

/// Judge what a child claims, by its own prompt, as `check_solution` judges a main thread.
#[pyfunction]
pub(super) fn check_claim(py: Python<'_>, prompt: &Bound<'_, PyString>, text: &Bound<'_, PyString>) -> Verdict {
    let (prompt, text) = (prompt.to_string_lossy(), text.to_string_lossy());
    py.detach(|| check::check_claim(&prompt, &text)).into()
}

/// What a thread wrote and what of it is wrong, as counts by name.
#[pyfunction]
pub(super) fn inspect(py: Python<'_>, text: &Bound<'_, PyString>) -> BTreeMap<&'static str, usize> {
    let text = text.to_string_lossy();
    let found = py.detach(|| inspection::inspect(&text));
    BTreeMap::from([
        ("unreadable", found.unreadable),
        ("steps", found.steps),
        ("wrong_results", found.wrong_results),
        ("invented_numbers", found.invented_numbers),
        ("wrong_numbers", found.wrong_numbers),
        ("repeated_steps", found.repeated_steps),
        ("states", found.states),
        ("wrong_states", found.wrong_states),
        ("verdicts", found.verdicts),
        ("wrong_verdicts", found.wrong_verdicts),
        ("trials", found.trials),
        ("wrong_trials", found.wrong_trials),
    ])
}

/// Where a thread went wrong: characters from the begin of its text, and what stands from there to the end of the line
/// by the grammar; None where several things could.
#[pyfunction]
pub(super) fn faults(py: Python<'_>, text: &Bound<'_, PyString>) -> Vec<(usize, Option<String>)> {
    let text = text.to_string_lossy();
    py.detach(|| {
        let found = inspection::faults(&text);
        found.into_iter().map(|fault| (characters(&text, fault.at), fault.right)).collect()
    })
}

/// Where a thread chose the steps that its nodes are made of: by the node's id, the characters from and to which the
/// two numbers and the sign between them stand.
#[pyfunction]
pub(super) fn choices(py: Python<'_>, text: &Bound<'_, PyString>) -> BTreeMap<String, (usize, usize)> {
    let text = text.to_string_lossy();
    py.detach(|| {
        let found = inspection::choices(&text).into_iter();
        found.map(|choice| (choice.id.to_owned(), between(&text, choice.place))).collect()
    })
}

/// Where a main thread decides what to do, and does not follow from what stands before: characters from and to.
#[pyfunction]
pub(super) fn decisions(py: Python<'_>, text: &Bound<'_, PyString>) -> Vec<(usize, usize)> {
    let text = text.to_string_lossy();
    py.detach(|| inspection::decisions(&text).into_iter().map(|place| between(&text, place)).collect())
}

/// A place given in bytes, in characters.
fn between(text: &str, place: Range<usize>) -> (usize, usize) {
    (characters(text, place.start), characters(text, place.end))
}

/// How many characters the first bytes of a text are.
fn characters(text: &str, bytes: usize) -> usize {
    // Traces are ASCII, where the two are one.
    if text.is_ascii() { bytes } else { text[..bytes].chars().count() }
}

/// Whether the first state of a child's prompt is one that its steps lead to from the problem.
#[pyfunction]
pub(super) fn follows(problem: &Problem, prompt: &Bound<'_, PyString>) -> bool {
    inspection::follows(&problem.0, &prompt.to_string_lossy())
}

/// The node that a thread with this prompt begins at; None if it names none.
#[pyfunction]
pub(super) fn first_node(prompt: &Bound<'_, PyString>) -> Option<String> {
    inspection::first_node(&prompt.to_string_lossy()).map(str::to_owned)
}

/// The first state of a text: target and numbers; None if there is none that can be read.
#[pyfunction]
pub(super) fn first_state(text: &Bound<'_, PyString>) -> Option<(Number, Vec<Number>)> {
    inspection::first_state(&text.to_string_lossy())
}

/// How many children the first state of a text shows.
#[pyfunction]
pub(super) fn first_width(text: &Bound<'_, PyString>) -> usize {
    inspection::first_width(&text.to_string_lossy())
}

/// The equations that a claimed solution names, in the form and order that equal solutions share.
#[pyfunction]
pub(super) fn claimed_steps(claim: &Bound<'_, PyString>) -> Vec<String> {
    let steps = read::claimed_steps(&claim.to_string_lossy());
    canonical(&steps).iter().map(ToString::to_string).collect()
}

/// The budget that a main thread's prompt begins with; None if it is unconditioned.
#[pyfunction]
pub(super) fn prompt_budget(prompt: &Bound<'_, PyString>) -> Option<u64> {
    read::prompt_budget(&prompt.to_string_lossy())
}

/// What a line of a trace tells; None if it is not in the grammar.
#[pyfunction]
pub(super) fn line_kind(line: &Bound<'_, PyString>) -> Option<&'static str> {
    Some(match read::Line::parse(&line.to_string_lossy())?.kind() {
        read::Kind::State => "state",
        read::Kind::Step => "step",
        read::Kind::Dead => "dead",
        read::Kind::Found => "found",
        read::Kind::Spawn => "spawn",
        read::Kind::Join => "join",
    })
}
