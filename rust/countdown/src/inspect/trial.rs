//! What has to stand in a trial, line by line.

use crate::problem::{Number, Op, Step};
use crate::trace::read::State;
use crate::trial::times;

/// A trial, as far as it is written.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    divisor: Number,
    /// What was made of the divisor, to be taken away next.
    product: Option<Number>,
    /// What is left of the dividend: until something is taken away, any number that the product may be meant for.
    rests: Vec<Number>,
    /// One of its lines is wrong.
    pub(super) wrong: bool,
}

impl Trial {
    /// The trial after one more line; `None` if that is a difference of nothing.
    pub(super) fn after(trial: Option<Self>, step: Step, wrong: bool, state: &State) -> Option<Self> {
        if step.op == Op::Sub {
            let Self { divisor, wrong: before, .. } = trial?;
            return Some(Self { divisor, product: None, rests: vec![step.result], wrong: wrong || before });
        }
        let (divisor, product) = (step.left, Some(step.result));
        if let Some(trial) = trial
            && trial.left(state).is_some_and(|(goes_on, _)| goes_on == divisor)
        {
            return Some(Self { product, wrong: wrong || trial.wrong, ..trial });
        }
        let all: Vec<_> = dividends(state).filter(|of| of.0 == divisor).map(|of| of.1).collect();
        let meant: Vec<_> = all.iter().copied().filter(|&rest| times(rest, divisor) == Some(step.right)).collect();
        let rests = if meant.is_empty() || target_is_tried(state) { all } else { meant };
        Some(Self { divisor, product, rests, wrong })
    }

    /// Whether something has to follow, and nothing is wrong so far.
    pub(super) fn unfinished(&self, state: &State) -> bool {
        !self.wrong && (self.product.is_some() || self.left(state).is_some())
    }

    /// Whether it says that a number divides, but wrongly.
    pub(super) fn misleads(&self, divisor: Number) -> bool {
        self.wrong && self.divisor == divisor && self.product.is_none() && self.rests == [0]
    }

    /// The divisor and what is left, if it goes in once more.
    fn left(&self, state: &State) -> Option<(Number, Number)> {
        let rest = *self.rests.first()?;
        // A model may write that it divides by nothing.
        let divides = self.divisor > 1 && rest >= self.divisor;
        let goes_on = divides && self.product.is_none() && !target_is_tried(state);
        goes_on.then_some((self.divisor, rest))
    }
}

/// The lines that may come next in a trial, or begin one.
pub(super) fn due(trial: Option<&Trial>, state: &State) -> Vec<String> {
    let product = |left, right| Some(Step { left, op: Op::Mul, right, result: Number::checked_mul(left, right)? });
    let difference = |left, right| Step { left, op: Op::Sub, right, result: left - right };
    let steps: Vec<Option<Step>> = match trial {
        Some(Trial { product: Some(product), rests, .. }) => {
            let taken = |&rest: &Number| {
                let (more, less) = if rest < *product { (*product, rest) } else { (rest, *product) };
                (rest >= *product || target_is_tried(state)).then(|| difference(more, less))
            };
            rests.iter().map(taken).collect()
        }
        trial => match trial.and_then(|trial| trial.left(state)) {
            Some((divisor, rest)) => vec![times(rest, divisor).and_then(|times| product(divisor, times))],
            None if target_is_tried(state) => {
                dividends(state).map(|(divisor, _)| product(divisor, state.target)).collect()
            }
            None => {
                let first = |(divisor, dividend)| product(divisor, times(dividend, divisor)?);
                dividends(state).map(first).collect()
            }
        },
    };
    let mut lines: Vec<String> = steps.into_iter().flatten().map(|step| format!("{step}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// With two numbers left nothing but the target may come out.
fn target_is_tried(state: &State) -> bool {
    state.numbers.len() == 2
}

/// The pairs of a state of which one number may be divided by another: divisor and dividend.
fn dividends(state: &State) -> impl Iterator<Item = (Number, Number)> {
    let pairs =
        state.numbers.iter().flat_map(|&divisor| state.numbers.iter().map(move |&dividend| (divisor, dividend)));
    pairs.filter(|&(divisor, dividend)| divisor > 1 && dividend > divisor)
}
