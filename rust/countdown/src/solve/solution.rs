//! A solution and its text.
//!
//! The steps are the solution; the expression tree is read off them. They may fit two trees (an operand that equals
//! both a number and an earlier result); the expression then is one of these.

use std::fmt::Write;

use crate::arithmetic::apply;
use crate::problem::{Number, Op, Step};

/// A way to reach a target: one step fewer than there were numbers, each number used exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Solution {
    /// The steps, each on numbers that are left when it is done.
    pub steps: Vec<Step>,
    /// The number reached.
    pub target: Number,
}

impl Solution {
    /// These steps as a solution, if they use exactly `numbers`, each once, hold, and reach `target`.
    pub fn replay(numbers: &[Number], target: Number, steps: &[Step]) -> Option<Solution> {
        let mut left = numbers.to_vec();
        for step in steps {
            for operand in [step.left, step.right] {
                let position = left.iter().position(|&n| n == operand)?;
                left.swap_remove(position);
            }
            left.push(apply(step.left, step.op, step.right).filter(|&result| result == step.result)?);
        }
        (left == [target]).then(|| Solution { steps: steps.to_vec(), target })
    }

    /// The solution as one expression, `66/3-4+22`.
    ///
    /// Parentheses stand only where the text would otherwise be read as another tree; operands of `+` and `*` change
    /// places where that saves a pair.
    pub fn expression(&self) -> String {
        // Results not used yet, in order. An operand is such a result if one has its value, else one of the numbers:
        // every result but the last is used later, so taking results first uses all of them.
        let mut results: Vec<(Number, Expression)> = Vec::new();
        let take = |value: Number, results: &mut Vec<(Number, Expression)>| match results
            .iter()
            .position(|&(v, _)| v == value)
        {
            Some(i) => results.remove(i).1,
            None => Expression { text: value.to_string(), op: None },
        };
        for step in &self.steps {
            let left = take(step.left, &mut results);
            let right = take(step.right, &mut results);
            results.push((step.result, Expression::join(left, step.op, right)));
        }
        take(self.target, &mut results).text
    }
}

/// Steps in the form and order that all solutions share which are the same but for the order of independent steps and
/// of operands that may change places.
pub fn canonical(steps: &[Step]) -> Vec<Step> {
    let mut steps: Vec<Step> = steps.iter().map(|step| step.ordered()).collect();
    steps.sort_unstable_by_key(|step| (step.op, step.left, step.right, step.result));
    steps
}

struct Expression {
    text: String,
    op: Option<Op>,
}

impl Expression {
    fn binds_tightly(&self) -> bool {
        matches!(self.op, None | Some(Op::Mul | Op::Div))
    }

    /// Whether it stands bare to the left of `op`; to the right of it, only a number or a tighter operation does.
    fn bare_left(&self, op: Op) -> bool {
        self.binds_tightly() || matches!(op, Op::Add | Op::Sub)
    }

    fn bare_right(&self, op: Op) -> bool {
        self.op.is_none() || (self.binds_tightly() && matches!(op, Op::Add | Op::Sub))
    }

    fn join(left: Expression, op: Op, right: Expression) -> Expression {
        let pairs = |l: &Expression, r: &Expression| !l.bare_left(op) as u8 + !r.bare_right(op) as u8;
        let commutes = matches!(op, Op::Add | Op::Mul);
        let (left, right) =
            if commutes && pairs(&right, &left) < pairs(&left, &right) { (right, left) } else { (left, right) };
        let mut text = String::with_capacity(left.text.len() + right.text.len() + 5);
        for (side, bare) in [(&left, left.bare_left(op)), (&right, right.bare_right(op))] {
            if !text.is_empty() {
                text.push(op.symbol() as char);
            }
            let written = if bare { write!(text, "{}", side.text) } else { write!(text, "({})", side.text) };
            written.expect("writing to a string succeeds");
        }
        Expression { text, op: Some(op) }
    }
}
