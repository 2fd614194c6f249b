//! Searches of one thread: SoS by batches or depth first, SoS+ with sub searches one after the other.

use super::Trace;
use super::heap::Heap;
use super::node::NodeIndex;
use super::teacher::{ROOT, Teacher};
use crate::arithmetic::Value;
use crate::problem::Error;
use crate::sample::Choices;
use crate::trace::write::Writer;
use crate::trace::{FAIL, NOTHING_IN_SUB_SEARCH};

impl<V: Value, C: Choices> Teacher<'_, V, C> {
    /// SoS and SoS+: best-first batches from the root, with nested sub searches where `promising` is given.
    pub(super) fn best_first(mut self, beam_size: usize, promising: Option<f64>) -> Result<Trace, Error> {
        let mut text = Writer::default();
        let solved = self.batches(ROOT, 0, beam_size, promising, &mut text)?.is_some();
        Ok(Trace { main_calls: vec![text.as_str().to_owned()], solved, ..Trace::default() })
    }

    /// A serial search from `start`, and the goal if it reached it; its text has its end then.
    fn batches(
        &mut self,
        start: NodeIndex,
        level: usize,
        beam_size: usize,
        promising: Option<f64>,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        let mut heap = Heap::default();
        heap.push(self.key(start), start);
        let mut batch = Vec::new();
        loop {
            batch.clear();
            batch.extend(std::iter::from_fn(|| heap.pop()).take(beam_size));
            for (place, &index) in batch.iter().enumerate() {
                if let Some(goal) = self.expand(index, beam_size, text)? {
                    self.finish(ROOT, goal, text);
                    return Ok(Some(goal));
                }
                // Drawn for nodes without internal children too: recorded choices count on it. A start node that is
                // one number was never expanded.
                let draws = self.node(index).numbers().len() > 1;
                let search_below = match promising {
                    Some(probability) if draws => self.choices.promising(probability)?,
                    _ => false,
                };
                if search_below {
                    let goal = self.sub_searches(level, beam_size, promising, text)?;
                    if goal.is_some() {
                        return Ok(goal);
                    }
                } else {
                    self.push_internal(&mut heap);
                }
                if let Some(&next) = batch.get(place + 1) {
                    self.move_to(next, text);
                }
            }
            match heap.top() {
                Some(&next) => self.move_to(next, text),
                None => break,
            }
        }
        text.phrase(FAIL);
        Ok(None)
    }

    /// Searches every internal child in turn, up to one that reaches the goal.
    pub(super) fn sub_searches(
        &mut self,
        level: usize,
        beam_size: usize,
        promising: Option<f64>,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        for (_, child) in std::mem::take(&mut self.internal) {
            text.start_sub_search(level + 1, self.node(child).path());
            let goal = self.batches(child, level + 1, beam_size, promising, text)?;
            text.exit_sub_search(level + 1);
            if goal.is_some() {
                return Ok(goal);
            }
            text.phrase(NOTHING_IN_SUB_SEARCH);
        }
        Ok(None)
    }

    /// SoS, depth first, the best child first.
    pub(super) fn depth_first(mut self, beam_size: usize) -> Result<Trace, Error> {
        let mut text = Writer::default();
        let mut stack = vec![ROOT];
        let mut solved = false;
        while let Some(index) = stack.pop() {
            if let Some(goal) = self.expand(index, beam_size, &mut text)? {
                self.finish(ROOT, goal, &mut text);
                solved = true;
                break;
            }
            stack.extend(self.internal.iter().rev().map(|&(_, child)| child));
            if let Some(&next) = stack.last() {
                self.move_to(next, &mut text);
            }
        }
        if !solved {
            text.phrase(FAIL);
        }
        Ok(Trace { main_calls: vec![text.as_str().to_owned()], solved, ..Trace::default() })
    }
}
