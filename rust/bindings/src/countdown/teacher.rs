//! Searches, and the streams of traces and lessons.

use std::sync::LazyLock;

use apr_countdown::cost;
use apr_countdown::heuristic::Heuristic;
use apr_countdown::lesson::{LessonPlan, LessonStream, Teacher, TraceItem, TraceStream};
use apr_countdown::llama2::llama2_tokens;
use apr_countdown::sample::{Choice, ProblemSpace, Recorded, for_search};
use apr_countdown::search::{self, Below, Guide, Method, Ranking, Waves};
use apr_countdown::tokens::Tokenizer;
use apr_countdown::{Error, Number};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::problem::{Problem, heuristic_kind};
use super::problems::space;
use super::{raise, unknown_method};
use crate::parallel;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Trace>()?;
    module.add_class::<Traces>()?;
    module.add_class::<Lessons>()?;
    module.add_function(wrap_pyfunction!(search_trace, module)?)?;
    Ok(())
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::default);

/// A written search of the teacher, as `search` makes it: the texts of its main thread and of its children.
#[pyclass(frozen, eq, module = "apr")]
#[derive(PartialEq, Eq)]
pub(super) struct Trace(search::Trace);

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

    /// What a model that writes it would sample: all tokens, those on the longest chain of dependent threads, and the
    /// longest sequence of a call; in tokens of the compact tokenizer or in Llama-2's.
    #[pyo3(signature = (*, llama2=false))]
    fn cost(&self, py: Python<'_>, llama2: bool) -> (usize, usize, usize) {
        let cost = py.detach(|| match llama2 {
            true => cost::cost(&self.0, &mut llama2_tokens),
            false => {
                let mut ids = Vec::new();
                cost::cost(&self.0, &mut |text| {
                    ids.clear();
                    TOKENIZER.encode_into(text, &mut ids);
                    ids.len()
                })
            }
        });
        (cost.total, cost.sequential, cost.context)
    }
}

fn ranked(name: &str) -> PyResult<Ranking> {
    Ok(match name {
        "paper" => Ranking::Paper,
        "heuristic" => Ranking::Heuristic,
        "sums_last" => Ranking::SumsLast,
        "kinds" => Ranking::Kinds,
        "smallest" => Ranking::Smallest,
        _ => {
            return Err(PyValueError::new_err(format!(
                "ranking is \"paper\", \"heuristic\", \"sums_last\", \"kinds\" or \"smallest\", not {name:?}"
            )));
        }
    })
}

/// Width of a search that is given none.
const DEFAULT_BEAM_SIZE: usize = 5;

/// The search that a method's name and parameters mean; with `waves` one in waves.
fn method(
    name: &str,
    beam_size: Option<usize>,
    child_beam_size: Option<usize>,
    promising: Option<f64>,
    order: &str,
    waves: Option<Vec<usize>>,
    shuffled: bool,
) -> PyResult<Method> {
    if let Some(sizes) = waves {
        let below = match (name, promising) {
            ("sos+", None) => Below::SubSearches,
            ("apr", None | Some(1.0)) => Below::Children,
            ("apr", Some(0.0)) => Below::Main,
            ("apr" | "sos+", Some(promising)) => {
                return Err(PyValueError::new_err(format!(
                    "promising is 0 or 1 (apr) or not given in a search in waves, not {promising}"
                )));
            }
            _ => return Err(PyValueError::new_err(format!("{name} does not search in waves"))),
        };
        let child_beam_size = child_beam_size.unwrap_or(usize::MAX);
        return Ok(Method::Waves(Waves { below, budget: beam_size, sizes, child_beam_size, shuffled }));
    }
    let beam_size = beam_size.unwrap_or(DEFAULT_BEAM_SIZE);
    Ok(match (name, order) {
        ("apr", _) => Method::Apr {
            beam_size,
            child_beam_size: child_beam_size.unwrap_or(beam_size),
            promising: promising.unwrap_or(0.9),
        },
        ("sos+", _) => Method::SosPlus { beam_size, promising: promising.unwrap_or(0.5) },
        ("sos", "bfs") => Method::SosBfs { beam_size },
        ("sos", "dfs") => Method::SosDfs { beam_size },
        ("sos", _) => {
            return Err(PyValueError::new_err(format!("order is \"bfs\" or \"dfs\", not {order:?}")));
        }
        _ => return Err(unknown_method(name)),
    })
}

#[derive(FromPyObject)]
pub(super) enum AnyChoice {
    Promising(bool),
    Wave(usize),
    Shuffle(Vec<usize>),
}

#[pyfunction]
#[pyo3(name = "search", signature = (problem, method_name, *, beam_size=None, child_beam_size=None, promising=None,
                                     order="bfs", heuristic="mult", ranking="paper", largest=None, slack=None,
                                     trials=None, waves=None, shuffled=false, seed=0, choices=None))]
#[allow(clippy::too_many_arguments)]
pub(super) fn search_trace(
    py: Python<'_>,
    problem: &Problem,
    method_name: &str,
    beam_size: Option<usize>,
    child_beam_size: Option<usize>,
    promising: Option<f64>,
    order: &str,
    heuristic: &str,
    ranking: &str,
    largest: Option<Number>,
    slack: Option<u32>,
    trials: Option<Number>,
    waves: Option<Vec<usize>>,
    shuffled: bool,
    seed: u64,
    choices: Option<Vec<AnyChoice>>,
) -> PyResult<Trace> {
    let guide = Guide { heuristic: heuristic_kind(heuristic)?, ranking: ranked(ranking)?, largest, slack, trials };
    let method = method(method_name, beam_size, child_beam_size, promising, order, waves, shuffled)?;
    let choices = choices.map(|choices| {
        let choice = |c| match c {
            AnyChoice::Promising(value) => Choice::Promising(value),
            AnyChoice::Wave(size) => Choice::Wave(size),
            AnyChoice::Shuffle(order) => Choice::Shuffle(order),
        };
        Recorded::new(choices.into_iter().map(choice).collect())
    });
    let trace = py.detach(|| match choices {
        Some(mut recorded) => {
            let trace = search::search(&problem.0, &method, guide, &mut recorded)?;
            match recorded.remaining() {
                0 => Ok(trace),
                n => Err(Error::Parameter(format!("{n} recorded choices are left over"))),
            }
        }
        None => search::search(&problem.0, &method, guide, &mut for_search(seed, 0)),
    });
    trace.map(Trace).map_err(raise)
}

/// An endless stream of problems with teacher traces.
#[pyclass(frozen, module = "apr._core")]
pub(super) struct Traces(TraceStream);

#[pymethods]
impl Traces {
    #[new]
    #[pyo3(signature = (seed, method, *, beam_size=None, child_beam_size=None, promising, ranking="paper", largest=None,
                        slack=None, trials=None, waves=None, rounds=0, shuffled=false, conditioned=1.0,
                        numbers=(4, 4), max_number=99, target=(10, 100), split="train", held_out_targets=vec![],
                        multiples=0.0, missed=0.0, main=true))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        seed: u64,
        method: &str,
        beam_size: Option<(usize, usize)>,
        child_beam_size: Option<(usize, usize)>,
        promising: f64,
        ranking: &str,
        largest: Option<Number>,
        slack: Option<u32>,
        trials: Option<Number>,
        waves: Option<Vec<usize>>,
        rounds: usize,
        shuffled: bool,
        conditioned: f64,
        numbers: (usize, usize),
        max_number: u64,
        target: (u64, u64),
        split: &str,
        held_out_targets: Vec<u64>,
        multiples: f64,
        missed: f64,
        main: bool,
    ) -> PyResult<Traces> {
        let serial = match method {
            "apr" => false,
            "sos+" => true,
            _ => return Err(unknown_method(method)),
        };
        let teacher = match (waves, beam_size) {
            (Some(sizes), budget) => {
                let child_beam_size = child_beam_size.map_or(usize::MAX, |(_, high)| high);
                Teacher::Waves { serial, budget, sizes, promising, child_beam_size, shuffled }
            }
            (None, None) => return Err(PyValueError::new_err("a search that is not in waves has a beam_size")),
            (None, Some(beam_size)) if serial => Teacher::SosPlus { beam_size, promising },
            (None, Some(beam_size)) => {
                Teacher::Apr { beam_size, child_beam_size: child_beam_size.unwrap_or((1, 1)), promising }
            }
        };
        let space = ProblemSpace { multiples, missed, ..space(numbers, max_number, target, split, held_out_targets)? };
        let guide = Guide { heuristic: Heuristic::Mult, ranking: ranked(ranking)?, largest, slack, trials };
        let traces = TraceStream::new(&space, teacher, guide, conditioned, seed).map_err(raise)?.lasting(rounds);
        Ok(Traces(if main { traces } else { traces.of_large_children() }))
    }

    /// Items `start` to `start + count`: (problem, trace, beam size or budget, child beam size, condition); None where
    /// there is none.
    #[allow(clippy::type_complexity)]
    fn get(
        &self,
        py: Python<'_>,
        start: u64,
        count: u64,
    ) -> PyResult<Vec<(Problem, Trace, Option<usize>, Option<usize>, Option<String>)>> {
        let items: Result<Vec<_>, Error> = py.detach(|| {
            let item = |i| {
                let TraceItem { problem, method, trace, condition } = self.0.get(i)?;
                let (beam, child_beam) = match method {
                    Method::Apr { beam_size, child_beam_size, .. } => (Some(beam_size), Some(child_beam_size)),
                    Method::Waves(waves) => (waves.budget, None),
                    Method::SosPlus { beam_size, .. } | Method::SosBfs { beam_size } | Method::SosDfs { beam_size } => {
                        (Some(beam_size), None)
                    }
                };
                Ok((Problem(problem), Trace(trace), beam, child_beam, condition))
            };
            parallel::map(start..start.saturating_add(count), item)
        });
        items.map_err(raise)
    }
}

/// An endless stream of supervised samples.
#[pyclass(frozen, module = "apr._core")]
pub(super) struct Lessons(LessonStream);

#[pymethods]
impl Lessons {
    #[new]
    #[pyo3(signature = (seed, parts, *, children, cancelled, max_tokens, children_above=None))]
    fn new(
        seed: u64,
        parts: Vec<(f64, PyRef<'_, Traces>)>,
        children: usize,
        cancelled: f64,
        max_tokens: usize,
        children_above: Option<Number>,
    ) -> PyResult<Lessons> {
        let parts = parts.iter().map(|(weight, traces)| (*weight, traces.0.clone())).collect();
        let plan = LessonPlan { children, children_above, cancelled, max_tokens };
        LessonStream::new(parts, plan, seed).map(Lessons).map_err(raise)
    }

    /// The samples of lessons `start` to `start + count`: per lesson a list of (token ids, kinds), a byte a token; a kind
    /// is 0 where there is no loss.
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
                        (ids, s.kinds(&TOKENIZER))
                    })
                    .collect())
            };
            parallel::map(start..start.saturating_add(count), lesson)
        });
        let rows = |lesson: Vec<(Vec<u8>, Vec<u8>)>| {
            lesson.iter().map(|(ids, kinds)| (PyBytes::new(py, ids), PyBytes::new(py, kinds))).collect()
        };
        Ok(lessons.map_err(raise)?.into_iter().map(rows).collect())
    }
}
