//! Heuristics: how far a state looks from the target; lower is better.

use std::cmp::Ordering;

use crate::arithmetic::Value;
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
pub struct Scorer<V = Number> {
    kind: Heuristic,
    target: V,
    /// Sorted; empty for the sum heuristic.
    divisors: Vec<V>,
    /// For small numbers below the target the distance to the nearest divisor.
    near: Vec<V>,
}

/// So many distances are listed beforehand.
const NEAR: u32 = 1024;

impl<V: Value> Scorer<V> {
    /// Lists the divisors of `target` where the heuristic needs them.
    ///
    /// # Errors
    /// For [`Heuristic::Mult`]: [`Error::NoDivisors`] below 2, [`Error::TargetTooLarge`] above [`MAX_TARGET`].
    pub fn new(kind: Heuristic, target: V) -> Result<Scorer<V>, Error> {
        let divisors = match kind {
            Heuristic::Mult => divisors(target.into())?.into_iter().map(V::from).collect(),
            Heuristic::Sum => Vec::new(),
        };
        let mut scorer = Scorer { kind, target, divisors, near: Vec::new() };
        if kind == Heuristic::Mult {
            let end = target.try_into().map_or(NEAR, |target| target.min(NEAR));
            scorer.near = (0..end).map(|n| scorer.scan(V::from(i64::from(n)))).collect();
        }
        Ok(scorer)
    }

    /// The target it was made ready for.
    pub(crate) fn target(&self) -> V {
        self.target
    }

    /// Orders states of `count` numbers with this sum of distances as their scores do.
    #[inline]
    pub(crate) fn key(&self, total: V, count: usize) -> V {
        match self.kind {
            Heuristic::Mult => total,
            // Floats that are not negative are ordered as their bits are.
            Heuristic::Sum => V::from(average(total.into(), count).to_bits() as i64),
        }
    }

    /// What a number that is not negative adds to the score.
    #[inline]
    pub(crate) fn distance(&self, n: V) -> V {
        if n >= self.target {
            // The target divides itself.
            return n - self.target;
        }
        match self.kind {
            Heuristic::Mult => {
                let listed = n.try_into().ok().and_then(|n| self.near.get(n as usize));
                listed.copied().unwrap_or_else(|| self.scan(n))
            }
            Heuristic::Sum => self.target - n,
        }
    }

    /// Distance to the nearest divisor, of which there is at least the target itself.
    fn scan(&self, n: V) -> V {
        let after = self.divisors.partition_point(|&d| d < n);
        let above = self.divisors.get(after).map(|&d| d - n);
        let below = after.checked_sub(1).map(|before| n - self.divisors[before]);
        above.into_iter().chain(below).min().expect("a divisor")
    }
}

impl Scorer {
    /// The score of a state.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the sum of distances does not fit.
    pub fn score(&self, numbers: &[Number]) -> Result<Score, Error> {
        let mut total: Number = 0;
        for &n in numbers {
            // The distance of a hugely negative number does not fit.
            let distance = match n < 0 || self.target < 0 {
                true => self.nearest().checked_sub(n).and_then(Number::checked_abs),
                false => Some(self.distance(n)),
            };
            total = distance.and_then(|d| total.checked_add(d)).ok_or(Error::Overflow)?;
        }
        Ok(match self.kind {
            Heuristic::Mult => Score::Integer(total),
            Heuristic::Sum => Score::Real(average(total, numbers.len())),
        })
    }

    /// The least number that distances are measured to.
    fn nearest(&self) -> Number {
        self.divisors.first().copied().unwrap_or(self.target)
    }
}

fn average(total: Number, count: usize) -> f64 {
    total as f64 / count as f64
}

/// Divisors from 2 to the target inclusive, ascending.
fn divisors(target: Number) -> Result<Vec<i64>, Error> {
    if target < 2 {
        return Err(Error::NoDivisors(target));
    }
    if target > MAX_TARGET {
        return Err(Error::TargetTooLarge { target });
    }
    let mut small = Vec::new();
    let mut large = Vec::new();
    let target = target as i64;
    let mut d = 1;
    while d * d <= target {
        if target % d == 0 {
            small.push(d);
            if d * d != target {
                large.push(target / d);
            }
        }
        d += 1;
    }
    small.extend(large.into_iter().rev());
    small.remove(0);
    Ok(small)
}
