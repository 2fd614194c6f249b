//! How far a line goes as it may.

use crate::arithmetic;
use crate::problem::{Number, Op, Step};

/// Length of the common begin of two texts, in bytes; it ends between two characters.
pub(super) fn common(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&at| a.is_char_boundary(at)).unwrap_or(0)
}

/// How far `text` goes like the equation of any step that these numbers allow, up to its result.
pub(super) fn steps(numbers: &[Number], text: &str) -> usize {
    let pairs = numbers.iter().enumerate().flat_map(|(i, &left)| {
        let others = numbers.iter().enumerate().filter(move |&(j, _)| j != i);
        others.map(move |(_, &right)| (left, right))
    });
    let equations = pairs.flat_map(|(left, right)| {
        let steps = [Op::Add, Op::Mul, Op::Sub, Op::Div].map(|op| (op, arithmetic::apply(left, op, right)));
        steps.into_iter().filter_map(move |(op, result)| Some(Step { left, op, right, result: result? }.to_string()))
    });
    // A result that differs too is a fault of its own.
    let up_to_result = |equation: String| {
        let end = equation.find('=').map_or(equation.len(), |sign| sign + 1);
        common(text, &equation[..end])
    };
    equations.map(up_to_result).max().unwrap_or(0)
}
