//! The teacher's searches: SoS, SoS+ and APR over Countdown states, written out as traces.
//!
//! A [`Trace`] holds finished texts. `main_calls[r]` for `r < rounds` ends with a spawn block; the last is the thread
//! that ended. `children[r]` are the children of round r in index order. A trace is a pure function of problem,
//! parameters and choices (spec: arXiv 2504.15466, sections 3 and 4, best-first batches as in its code).

use crate::arithmetic::{Value, bound};
use crate::heuristic::{Heuristic, Score, Scorer};
use crate::problem::{Error, MAX_NUMBERS, Number, Problem, Step};
use crate::sample::Choices;
use teacher::Teacher;
use threads::Spawning;

mod heap;
mod node;
mod serial;
mod teacher;
mod threads;
mod waves;

pub use heap::Heap;

/// A written search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The main thread's texts: one more than there are spawn rounds.
    pub main_calls: Vec<String>,
    /// Per spawn round the children in index order.
    pub children: Vec<Vec<Trace>>,
    /// Whether the goal was reached.
    pub solved: bool,
    /// How many waves it took; 0 for a search that is not in waves.
    pub waves: usize,
}

impl Trace {
    /// The final text of the main thread.
    pub fn text(&self) -> &str {
        self.main_calls.last().map_or("", String::as_str)
    }
}

/// A search and its widths.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Stream of Search: one thread, best-first batches, no sub searches.
    SosBfs {
        /// Width of expansion and batch.
        beam_size: usize,
    },
    /// Stream of Search: one thread, depth first, best child first.
    SosDfs {
        /// Width of expansion.
        beam_size: usize,
    },
    /// SoS+: one thread with serial sub searches at promising nodes.
    SosPlus {
        /// Width of expansion and batch.
        beam_size: usize,
        /// Probability that an expanded node is promising.
        promising: f64,
    },
    /// APR: children run as threads of their own.
    Apr {
        /// Width of the main thread.
        beam_size: usize,
        /// Width of the children.
        child_beam_size: usize,
        /// Probability that an expanded node is promising.
        promising: f64,
    },
    /// The root's steps are shown a few at a time, and what each leads to is searched to its end before more are shown.
    Waves(Waves),
}

/// A search in waves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waves {
    /// How what the root's steps lead to is searched.
    pub below: Below,
    /// At most so many of the root's steps are shown, over all waves; none: all.
    pub budget: Option<usize>,
    /// How many steps a wave may have; drawn for each wave, so one that stands here twice comes twice as often.
    pub sizes: Vec<usize>,
    /// Width of the searches below the root.
    pub child_beam_size: usize,
    /// The root's steps come in random order, whatever the ranking: a main thread without a preference.
    pub shuffled: bool,
}

/// Where the states that a wave leads to are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// In child threads, all of a wave at once (APR).
    Children,
    /// In the main thread itself, one after the other (APR without a spawn).
    Main,
    /// In sub searches of one serial thread, one after the other (SoS+).
    SubSearches,
}

/// In which order the steps of a state are kept, shown and followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranking {
    /// As the paper's code: kept by the heuristic, shown shuffled, followed best first.
    #[default]
    Paper,
    /// By the heuristic, also where they are shown and followed.
    Heuristic,
    /// That of generation, but sums last: a sum can often wait for a later step.
    SumsLast,
    /// By kind: differences, each with the quotient of its pair, then sums, then products, which lead on least often.
    Kinds,
    /// The smallest result first.
    Smallest,
}

/// What a search goes by beside its widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guide {
    /// Which children are the best.
    pub heuristic: Heuristic,
    /// In which order steps come. In any but the paper's what comes next follows from what stands there, and nothing
    /// is shown twice: a model learns it sooner.
    pub ranking: Ranking,
    /// Steps to a greater result are left out. Large products are the hardest results to compute, and seldom on the
    /// way to a target.
    pub largest: Option<Number>,
    /// Steps that lead too far above the target are left out: to a number greater than this many times what the other
    /// numbers could bring down to the target. From 1 on no way to the target is lost.
    pub slack: Option<u32>,
    /// Before a quotient of a greater number stands a trial, by which it is seen whether there is one: the division
    /// written out, or with two numbers left the product of the divisor and the target. Only with [`Ranking::Kinds`].
    pub trials: Option<Number>,
}

impl From<Heuristic> for Guide {
    /// As the paper's code goes by a heuristic.
    fn from(heuristic: Heuristic) -> Guide {
        Guide { heuristic, ranking: Ranking::Paper, largest: None, slack: None, trials: None }
    }
}

impl Method {
    fn validate(&self) -> Result<(), Error> {
        let (beams, promising) = match *self {
            Method::SosBfs { beam_size } | Method::SosDfs { beam_size } => ([beam_size; 2], 0.0),
            Method::SosPlus { beam_size, promising } => ([beam_size; 2], promising),
            Method::Apr { beam_size, child_beam_size, promising } => ([beam_size, child_beam_size], promising),
            Method::Waves(Waves { ref sizes, child_beam_size, .. }) => {
                ([child_beam_size, sizes.iter().copied().min().unwrap_or(0)], 0.0)
            }
        };
        if beams.contains(&0) {
            return Err(Error::Parameter("a beam or a wave is at least 1 wide".into()));
        }
        if matches!(self, Method::Waves(Waves { budget: Some(0), .. })) {
            return Err(Error::Parameter("a search in waves shows one of the root's steps at least".into()));
        }
        if !(0.0..=1.0).contains(&promising) {
            return Err(Error::Parameter(format!("promising is a probability, not {promising}")));
        }
        Ok(())
    }
}

/// Searches `problem` with `method`, taking every random choice from `choices`. The paper's data goes by
/// [`Heuristic::Mult`] alone.
///
/// # Errors
/// [`Error::Parameter`] for widths or probabilities out of range, [`Error::Overflow`] where a number grows past 128
/// bits, [`Error::Choice`] where recorded choices do not fit, and the errors of [`Scorer::new`].
pub fn search(
    problem: &Problem,
    method: &Method,
    guide: impl Into<Guide>,
    choices: &mut impl Choices,
) -> Result<Trace, Error> {
    method.validate()?;
    let guide = guide.into();
    if guide.trials.is_some() && guide.ranking != Ranking::Kinds {
        return Err(Error::Parameter("trials are of the ranking kinds".into()));
    }
    match narrow(problem) {
        Some((numbers, target)) => run(Teacher::new(&numbers, target, guide, choices)?, method),
        None => run(Teacher::new(problem.numbers(), problem.target(), guide, choices)?, method),
    }
}

/// The numbers and the target, if 64 bits hold all that becomes of them, distances included.
fn narrow(problem: &Problem) -> Option<(Vec<i64>, i64)> {
    const MOST: i64 = i64::MAX / MAX_NUMBERS as i64;
    let numbers = problem.numbers().iter().map(|&n| i64::try_from(n).ok()).collect::<Option<Vec<_>>>()?;
    let target = i64::try_from(problem.target()).ok()?;
    (bound(problem.numbers())? <= MOST.into() && target <= MOST).then_some((numbers, target))
}

fn run<V: Value, C: Choices>(teacher: Teacher<'_, V, C>, method: &Method) -> Result<Trace, Error> {
    match *method {
        Method::SosBfs { beam_size } => teacher.best_first(beam_size, None),
        Method::SosDfs { beam_size } => teacher.depth_first(beam_size),
        Method::SosPlus { beam_size, promising } => teacher.best_first(beam_size, Some(promising)),
        Method::Apr { beam_size, child_beam_size, promising } => {
            teacher.parallel(beam_size, Spawning { child_beam_size, promising })
        }
        Method::Waves(ref waves) => teacher.in_waves(waves),
    }
}

/// The kept children of a state, as an expansion shows them: best first, before the shuffle.
///
/// # Errors
/// As [`search`].
pub fn expand(
    numbers: &[Number],
    target: Number,
    heuristic: Heuristic,
    beam_size: usize,
) -> Result<Vec<(Score, Vec<Number>, Step)>, Error> {
    if numbers.len() > MAX_NUMBERS {
        return Err(Error::NumberCount(numbers.len()));
    }
    if let Some(&n) = numbers.iter().find(|&&n| n < 0) {
        return Err(Error::NegativeNumber(n));
    }
    if target < 1 {
        return Err(Error::Target(target));
    }
    if beam_size == 0 {
        return Err(Error::Parameter("a beam or a wave is at least 1 wide".into()));
    }
    teacher::kept(numbers, &heuristic.into(), &Scorer::new(heuristic, target)?, beam_size)
}
