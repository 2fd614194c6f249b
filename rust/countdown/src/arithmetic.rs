//! The combine rule: what two numbers of a state can become.
//!
//! The order is part of every trace: sum, product, difference, quotient. Differences are never negative, quotients
//! are exact and exist only for a non-zero smaller operand.

use std::hash::Hash;
use std::ops::{Add, Div, Mul, Rem, Sub};

use crate::problem::{Error, Number, Op, Step};

/// An integer that the searches and the solver work on: [`Number`], or `i64` where every result fits it.
pub trait Value:
    Copy
    + Ord
    + Hash
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Rem<Output = Self>
    + From<i64>
    + Into<Number>
    + TryFrom<Number>
    + TryInto<u32>
{
    /// The sum, if it fits.
    fn checked_add(self, other: Self) -> Option<Self>;
    /// The product, if it fits.
    fn checked_mul(self, other: Self) -> Option<Self>;
}

impl Value for i64 {
    fn checked_add(self, other: i64) -> Option<i64> {
        self.checked_add(other)
    }
    fn checked_mul(self, other: i64) -> Option<i64> {
        self.checked_mul(other)
    }
}

impl Value for Number {
    fn checked_add(self, other: Number) -> Option<Number> {
        self.checked_add(other)
    }
    fn checked_mul(self, other: Number) -> Option<Number> {
        // A library call; nearly all operands are small.
        match (u32::try_from(self), u32::try_from(other)) {
            (Ok(a), Ok(b)) => Some(Number::from(u64::from(a) * u64::from(b))),
            _ => self.checked_mul(other),
        }
    }
}

/// The steps that two numbers allow, in the order of the traces; at most four.
#[derive(Clone, Copy, Debug)]
pub struct Steps<V = Number> {
    steps: [Step<V>; 4],
    len: usize,
}

impl<V> std::ops::Deref for Steps<V> {
    type Target = [Step<V>];

    fn deref(&self) -> &[Step<V>] {
        &self.steps[..self.len]
    }
}

/// All steps on `a` and `b`, where `a` stands before `b` in the state.
///
/// # Errors
/// [`Error::NegativeNumber`] for an operand below zero, [`Error::Overflow`] for a result that does not fit.
#[inline(always)]
pub fn combine<V: Value>(a: V, b: V) -> Result<Steps<V>, Error> {
    if let Some(&n) = [a, b].iter().find(|&&n| n < V::default()) {
        return Err(Error::NegativeNumber(n.into()));
    }
    let (high, low) = if a <= b { (b, a) } else { (a, b) };
    let quotient = exact_quotient(high, low);
    let steps = [
        Step { left: a, op: Op::Add, right: b, result: a.checked_add(b).ok_or(Error::Overflow)? },
        Step { left: a, op: Op::Mul, right: b, result: a.checked_mul(b).ok_or(Error::Overflow)? },
        Step { left: high, op: Op::Sub, right: low, result: high - low },
        Step { left: high, op: Op::Div, right: low, result: quotient.unwrap_or_default() },
    ];
    Ok(Steps { steps, len: if quotient.is_some() { 4 } else { 3 } })
}

/// The result of `left op right` if it is exact, not negative and fits into 128 bits.
pub fn apply(left: Number, op: Op, right: Number) -> Option<Number> {
    if left < 0 || right < 0 {
        return None;
    }
    match op {
        Op::Add => left.checked_add(right),
        Op::Mul => Value::checked_mul(left, right),
        Op::Sub => Some(left - right).filter(|&r| r >= 0),
        Op::Div => exact_quotient(left, right),
    }
}

/// What no value that becomes of these numbers exceeds, if it fits: a+b and a*b are below (a+1)(b+1), the others below
/// a+1.
pub(crate) fn bound(numbers: &[Number]) -> Option<Number> {
    numbers.iter().try_fold(1, |bound: Number, n| bound.checked_mul(n.checked_add(1)?))
}

fn exact_quotient<V: Value>(a: V, b: V) -> Option<V> {
    let zero = V::default();
    if b == zero {
        return None;
    }
    // Short divisions are the fastest, and nearly all operands are small.
    match (a.try_into(), b.try_into()) {
        (Ok(a), Ok(b)) => (a % b == 0).then(|| V::from(i64::from(a / b))),
        _ => (a % b == zero).then(|| a / b),
    }
}
