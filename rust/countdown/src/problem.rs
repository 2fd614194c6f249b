//! Problems and steps: the values that everything else in this crate speaks about.
//!
//! Numbers are `i128` and never negative. Arithmetic on them is checked: a result that does not fit is
//! [`Error::Overflow`], never a wrong number.

use std::fmt;

/// A Countdown number.
pub type Number = i128;

/// The most numbers that a problem may have.
pub const MAX_NUMBERS: usize = 6;

/// What can be wrong with a problem, or with the arithmetic on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer than one or more than [`MAX_NUMBERS`] numbers.
    #[error("a problem has 1 to {MAX_NUMBERS} numbers, not {0}")]
    NumberCount(usize),
    /// A number below zero.
    #[error("numbers are not negative: {0}")]
    NegativeNumber(Number),
    /// A target below one.
    #[error("the target is at least 1, not {0}")]
    Target(Number),
    /// A result outside 128 bits.
    #[error("a result does not fit into 128 bits")]
    Overflow,
    /// The mult heuristic of a target that has no divisor from 2 on.
    #[error("the mult heuristic needs a target of at least 2, not {0}")]
    NoDivisors(Number),
    /// A target whose divisors take too long to list.
    #[error("the mult heuristic takes targets up to {max}, not {target}", max = crate::heuristic::MAX_TARGET)]
    TargetTooLarge {
        /// The target asked for.
        target: Number,
    },
    /// A search parameter out of its range.
    #[error("{0}")]
    Parameter(String),
    /// A recorded list of choices that does not fit the search it is replayed on.
    #[error("recorded choice {index}: {what}")]
    Choice {
        /// Position in the recorded list.
        index: usize,
        /// What was expected and what was found.
        what: String,
    },
}

/// One of the four operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Addition.
    Add,
    /// Multiplication.
    Mul,
    /// Subtraction, larger minus smaller.
    Sub,
    /// Exact division, larger by smaller.
    Div,
}

impl Op {
    /// The ASCII sign of the operation.
    pub fn symbol(self) -> u8 {
        match self {
            Op::Add => b'+',
            Op::Mul => b'*',
            Op::Sub => b'-',
            Op::Div => b'/',
        }
    }

    /// The operation of an ASCII sign.
    pub fn from_symbol(symbol: u8) -> Option<Op> {
        match symbol {
            b'+' => Some(Op::Add),
            b'*' => Some(Op::Mul),
            b'-' => Some(Op::Sub),
            b'/' => Some(Op::Div),
            _ => None,
        }
    }
}

/// One operation on two numbers with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step<V = Number> {
    /// Left operand.
    pub left: V,
    /// Operation.
    pub op: Op,
    /// Right operand.
    pub right: V,
    /// Result.
    pub result: V,
}

impl Step {
    /// The same step with the larger operand first where the operands may change places.
    pub fn ordered(self) -> Step {
        match self.op {
            Op::Add | Op::Mul if self.left < self.right => Step { left: self.right, right: self.left, ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Step {
    /// Writes `a+b=c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = self.op.symbol() as char;
        write!(f, "{}{symbol}{}={}", self.left, self.right, self.result)
    }
}

/// A Countdown problem: reach `target` from `numbers`, each used exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    numbers: Vec<Number>,
    target: Number,
}

impl Problem {
    /// A checked problem: 1 to [`MAX_NUMBERS`] numbers, none negative, and a target of at least 1.
    pub fn new(numbers: Vec<Number>, target: Number) -> Result<Problem, Error> {
        if numbers.is_empty() || numbers.len() > MAX_NUMBERS {
            return Err(Error::NumberCount(numbers.len()));
        }
        if let Some(&n) = numbers.iter().find(|&&n| n < 0) {
            return Err(Error::NegativeNumber(n));
        }
        if target < 1 {
            return Err(Error::Target(target));
        }
        Ok(Problem { numbers, target })
    }

    /// The numbers, in the order given.
    pub fn numbers(&self) -> &[Number] {
        &self.numbers
    }

    /// The number to reach.
    pub fn target(&self) -> Number {
        self.target
    }
}
