//! What a teacher's search would cost a model: the tokens that it would have to sample.

use crate::lesson::given_len;
use crate::search::Trace;

/// The tokens of a search, by one tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Sampled tokens of all threads.
    pub total: usize,
    /// Sampled tokens on the longest chain of dependent threads.
    pub sequential: usize,
    /// The longest sequence that any call holds, begin and end included.
    pub context: usize,
}

/// The cost of a trace, where `count` is a tokenizer's length of a text. A call that ends a thread has an end token too.
pub fn cost(trace: &Trace, count: &mut impl FnMut(&str) -> usize) -> Cost {
    let mut cost = Cost::default();
    let last = trace.main_calls.len() - 1;
    for (round, text) in trace.main_calls.iter().enumerate() {
        let given = given_len(trace, round);
        let end = usize::from(round == last);
        let sampled = count(&text[given..]) + end;
        cost.total += sampled;
        cost.sequential += sampled;
        cost.context = cost.context.max(1 + count(text) + end);
        let children = trace.children.get(round).into_iter().flatten();
        let mut longest = 0;
        for child in children.map(|child| self::cost(child, count)) {
            cost.total += child.total;
            cost.context = cost.context.max(child.context);
            longest = longest.max(child.sequential);
        }
        cost.sequential += longest;
    }
    cost
}
