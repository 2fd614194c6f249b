//! States on the stack and the steps on them, over the narrowest integer that is wide enough.
//!
//! [`Width`] bounds every value that some numbers can become, so arithmetic on a [`State`] never overflows.

use crate::arithmetic::{Value, bound};
use crate::problem::{Error, MAX_NUMBERS, Number, Op, Step};

/// The arithmetic that is wide enough for every value that some numbers can become.
pub(super) enum Width {
    Unreachable,
    Bits64,
    Bits128,
}

impl Width {
    pub(super) fn of(numbers: &[Number], target: Number) -> Result<Width, Error> {
        if numbers.is_empty() || numbers.len() > MAX_NUMBERS {
            return Err(Error::NumberCount(numbers.len()));
        }
        if let Some(&n) = numbers.iter().find(|&&n| n < 0) {
            return Err(Error::NegativeNumber(n));
        }
        if target < 1 {
            return Err(Error::Target(target));
        }
        let bound = if let [only] = numbers { Some(*only) } else { bound(numbers) };
        match bound {
            None => Err(Error::Overflow),
            Some(bound) if target > bound => Ok(Width::Unreachable),
            Some(bound) if bound <= Number::from(i64::MAX) => Ok(Width::Bits64),
            Some(_) => Ok(Width::Bits128),
        }
    }
}

pub(super) fn narrow<V: Value>(n: Number) -> V {
    V::try_from(n).ok().expect("the bound holds for the target and every number")
}

pub(super) fn wide<V: Value>(step: Step<V>) -> Step {
    Step { left: step.left.into(), op: step.op, right: step.right.into(), result: step.result.into() }
}

/// The same for two steps that are one but for the order of their operands.
pub(super) fn key<V: Value>(step: Step<V>) -> (Op, V, V) {
    (step.op, step.left.max(step.right), step.left.min(step.right))
}

/// The steps on `a` and `b` in the order of the combine rule; the quotient is missing if it is not exact.
pub(super) fn steps<V: Value>(a: V, b: V) -> impl Iterator<Item = Step<V>> {
    let zero = V::default();
    let (high, low) = if a <= b { (b, a) } else { (a, b) };
    let exact = low != zero && high % low == zero;
    let quotient = exact.then(|| Step { left: high, op: Op::Div, right: low, result: high / low });
    [
        Step { left: a, op: Op::Add, right: b, result: a + b },
        Step { left: a, op: Op::Mul, right: b, result: a * b },
        Step { left: high, op: Op::Sub, right: low, result: high - low },
    ]
    .into_iter()
    .chain(quotient)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State<V> {
    pub(super) len: usize,
    pub(super) values: [V; MAX_NUMBERS],
}

impl<V: Value> State<V> {
    pub(super) fn new(numbers: &[Number]) -> State<V> {
        let mut values = [V::default(); MAX_NUMBERS];
        for (value, &n) in values.iter_mut().zip(numbers) {
            *value = narrow(n);
        }
        State { len: numbers.len(), values }
    }

    pub(super) fn numbers(&self) -> &[V] {
        &self.values[..self.len]
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<V> {
        let len = self.len;
        (0..len).flat_map(move |i| (i + 1..len).map(move |j| (i, j)))
    }

    /// The other numbers in order, the result last.
    pub(super) fn child(&self, i: usize, j: usize, result: V) -> State<V> {
        let mut values = [V::default(); MAX_NUMBERS];
        let mut len = 0;
        for (k, &n) in self.numbers().iter().enumerate() {
            if k != i && k != j {
                values[len] = n;
                len += 1;
            }
        }
        values[len] = result;
        State { len: len + 1, values }
    }

    /// The state as a multiset: what can be reached does not depend on the order.
    pub(super) fn sorted(mut self) -> State<V> {
        self.values[..self.len].sort_unstable();
        self
    }
}
