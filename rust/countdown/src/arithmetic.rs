//! The combine rule: what two numbers of a state can become.
//!
//! The order is part of every trace: sum, product, difference, quotient. Differences are never negative, quotients
//! are exact and exist only for a non-zero smaller operand.

use crate::problem::{Error, Number, Op, Step};

/// The steps that two numbers allow, in the order of the traces; at most four.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    steps: [Step; 4],
    len: usize,
}

impl std::ops::Deref for Steps {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.steps[..self.len]
    }
}

/// All steps on `a` and `b`, where `a` stands before `b` in the state.
///
/// # Errors
/// [`Error::NegativeNumber`] for an operand below zero, [`Error::Overflow`] for a result outside 128 bits.
#[inline(always)]
pub fn combine(a: Number, b: Number) -> Result<Steps, Error> {
    if let Some(&n) = [a, b].iter().find(|&&n| n < 0) {
        return Err(Error::NegativeNumber(n));
    }
    let (high, low) = if a <= b { (b, a) } else { (a, b) };
    let quotient = exact_quotient(high, low);
    let steps = [
        Step { left: a, op: Op::Add, right: b, result: a.checked_add(b).ok_or(Error::Overflow)? },
        Step { left: a, op: Op::Mul, right: b, result: product(a, b).ok_or(Error::Overflow)? },
        Step { left: high, op: Op::Sub, right: low, result: high - low },
        Step { left: high, op: Op::Div, right: low, result: quotient.unwrap_or(0) },
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
        Op::Mul => product(left, right),
        Op::Sub => Some(left - right).filter(|&r| r >= 0),
        Op::Div => exact_quotient(left, right),
    }
}

/// 128-bit multiplication is a library call; nearly all operands are small.
fn product(a: Number, b: Number) -> Option<Number> {
    match (u32::try_from(a), u32::try_from(b)) {
        (Ok(a), Ok(b)) => Some(Number::from(u64::from(a) * u64::from(b))),
        _ => a.checked_mul(b),
    }
}

fn exact_quotient(a: Number, b: Number) -> Option<Number> {
    if b == 0 {
        return None;
    }
    match (u32::try_from(a), u32::try_from(b)) {
        (Ok(a), Ok(b)) => (a % b == 0).then(|| Number::from(a / b)),
        _ => (a % b == 0).then(|| a / b),
    }
}
