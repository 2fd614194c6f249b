//! APR search: threads that spawn and join others.

use super::Trace;
use super::node::NodeIndex;
use super::teacher::{ROOT, Teacher};
use crate::arithmetic::Value;
use crate::problem::Error;
use crate::sample::Choices;
use crate::trace::write::Writer;
use crate::trace::{CHILD_FAILED, CHILD_SOLVED, END_JOIN, END_RESULT, JOIN};

/// The widths of an APR search.
#[derive(Clone, Copy)]
pub(super) struct Spawning {
    pub(super) child_beam_size: usize,
    pub(super) promising: f64,
}

impl<V: Value, C: Choices> Teacher<'_, V, C> {
    /// APR: the main thread spawns, its children do not.
    pub(super) fn parallel(mut self, beam_size: usize, spawning: Spawning) -> Result<Trace, Error> {
        let mut trace = Trace::default();
        let mut text = Writer::default();
        let goal = self.thread(ROOT, beam_size, Some((spawning, &mut trace)), &mut text)?;
        trace.main_calls.push(text.as_str().to_owned());
        trace.solved = goal.is_some();
        Ok(trace)
    }

    /// One thread from `start`, and the goal if it reached it. Only a thread that is given `spawning` spawns.
    fn thread(
        &mut self,
        start: NodeIndex,
        beam_size: usize,
        spawning: Option<(Spawning, &mut Trace)>,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        let goal = self.walk(start, beam_size, spawning, text)?;
        self.end(start, goal, text);
        Ok(goal)
    }

    /// What a thread does before it ends.
    pub(super) fn walk(
        &mut self,
        start: NodeIndex,
        beam_size: usize,
        mut spawning: Option<(Spawning, &mut Trace)>,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        self.move_to(start, text);
        let (mut heap, mut batch) = std::mem::take(&mut self.spare);
        heap.clear();
        heap.push(self.key(start), start);
        let goal = 'search: loop {
            batch.clear();
            batch.extend(std::iter::from_fn(|| heap.pop()).take(beam_size));
            for (place, &index) in batch.iter().enumerate() {
                let mut goal = self.expand(index, beam_size, text)?;
                match &mut spawning {
                    Some((spawning, trace))
                        if self.internal.len() > 1 && self.choices.promising(spawning.promising)? =>
                    {
                        goal = self.spawn(spawning.child_beam_size, text, trace)?;
                    }
                    _ => self.push_internal(&mut heap),
                }
                if goal.is_some() {
                    break 'search goal;
                }
                if let Some(&next) = batch.get(place + 1) {
                    self.move_to(next, text);
                }
            }
            match heap.top() {
                Some(&next) => self.move_to(next, text),
                None => break None,
            }
        };
        self.spare = (heap, batch);
        Ok(goal)
    }

    /// Runs every internal child to its end and joins them: the text so far is closed with the spawn block, and goes
    /// on with the join block in its place. The goal of the first child that reached it.
    pub(super) fn spawn(
        &mut self,
        beam_size: usize,
        text: &mut Writer,
        trace: &mut Trace,
    ) -> Result<Option<NodeIndex>, Error> {
        let children = std::mem::take(&mut self.internal);
        let mut round = Vec::with_capacity(children.len());
        let mut first = None;
        let mut child_text = Writer::default();
        let mut joined = Writer::default();
        joined.phrase(JOIN);
        for (place, &(_, child)) in children.iter().enumerate() {
            let nodes = self.nodes.len();
            child_text.cut(0);
            let goal = self.thread(child, beam_size, None, &mut child_text)?;
            joined.open_result(if goal.is_some() { CHILD_SOLVED } else { CHILD_FAILED }, place, 1);
            joined.id(self.node(child).path());
            joined.phrase(END_RESULT);
            if let Some(goal) = goal {
                self.summary(child, goal, &mut joined);
            }
            round.push(Trace {
                main_calls: vec![child_text.as_str().to_owned()],
                solved: goal.is_some(),
                ..Trace::default()
            });
            if first.is_none() && goal.is_some() {
                first = goal;
            } else {
                // Only the first goal's way is read again.
                self.nodes.truncate(nodes);
            }
        }
        joined.phrase(END_JOIN);
        trace.children.push(round);
        let trunk = text.len();
        text.spawn_block(1, children.iter().map(|&(_, child)| self.node(child).path()));
        trace.main_calls.push(text.as_str().to_owned());
        text.cut(trunk);
        text.append(&joined);
        Ok(first)
    }
}
