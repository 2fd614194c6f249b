//! Heuristics: how far a state looks from the target; lower is better.

use std::cmp::Ordering;

use crate::problem::{Error, Number};

/// The largest target whose divisors the mult heuristic lists.
pub const MAX_TARGET: Number = 100_000_000_000_000;

/// Which heuristic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heuristic {
    /// Sum over the numbers of the distance to the nearest divisor of the target.
    Mult,
    /// Distance to the target, averaged over the numbers.
    Sum,
}

/// A heuristic's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Of [`Heuristic::Mult`].
    Integer(Number),
    /// Of [`Heuristic::Sum`].
    Real(f64),
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        match (self, other) {
            (Score::Integer(a), Score::Integer(b)) => a.cmp(b),
            (a, b) => a.value().total_cmp(&b.value()),
        }
    }
}

impl Score {
    /// The value as a float.
    pub fn value(self) -> f64 {
        match self {
            Score::Integer(v) => v as f64,
            Score::Real(v) => v,
        }
    }
}

/// A heuristic made ready for one target.
#[derive(Clone, Debug)]
pub struct Scorer {
    kind: Heuristic,
    target: Number,
    divisors: Vec<Number>,
}

impl Scorer {
    /// Lists the divisors of `target` where the heuristic needs them.
    ///
    /// # Errors
    /// For [`Heuristic::Mult`]: [`Error::NoDivisors`] below 2, [`Error::TargetTooLarge`] above [`MAX_TARGET`].
    pub fn new(kind: Heuristic, target: Number) -> Result<Scorer, Error> {
        let divisors = match kind {
            Heuristic::Mult => divisors(target)?,
            Heuristic::Sum => Vec::new(),
        };
        Ok(Scorer { kind, target, divisors })
    }

    /// The score of a state.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the sum of distances does not fit.
    pub fn score(&self, numbers: &[Number]) -> Result<Score, Error> {
        match self.kind {
            Heuristic::Mult => {
                let mut total: Number = 0;
                for &n in numbers {
                    total = total.checked_add(self.distance(n)).ok_or(Error::Overflow)?;
                }
                Ok(Score::Integer(total))
            }
            Heuristic::Sum => {
                let mut total: Number = 0;
                for &n in numbers {
                    total = total.checked_add((n - self.target).abs()).ok_or(Error::Overflow)?;
                }
                Ok(Score::Real(total as f64 / numbers.len() as f64))
            }
        }
    }

    /// Distance of one number to the nearest divisor from 2 on; the divisors are sorted.
    fn distance(&self, n: Number) -> Number {
        let mut best = Number::MAX;
        for &d in &self.divisors {
            let distance = (d - n).abs();
            if distance > best {
                break;
            }
            best = distance;
        }
        best
    }
}

/// Divisors from 2 to the target inclusive, ascending.
fn divisors(target: Number) -> Result<Vec<Number>, Error> {
    if target < 2 {
        return Err(Error::NoDivisors(target));
    }
    if target > MAX_TARGET {
        return Err(Error::TargetTooLarge { target });
    }
    let mut small = Vec::new();
    let mut large = Vec::new();
    let target = target as u64;
    let mut d = 1;
    while d * d <= target {
        if target.is_multiple_of(d) {
            small.push(Number::from(d));
            if d * d != target {
                large.push(Number::from(target / d));
            }
        }
        d += 1;
    }
    small.extend(large.into_iter().rev());
    small.remove(0);
    Ok(small)
}
