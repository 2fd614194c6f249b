//! Searches in waves: the root's steps a few at a time, and what each leads to before more are shown.
//!
//! A wave begins with the root's state; the ids of its nodes count on from the wave before. So each wave is what the
//! grammar calls a node's block, and a search that ends early has shown no more than it needed.

use super::node::NodeIndex;
use super::teacher::{ROOT, Teacher};
use super::{Below, Trace, Waves};
use crate::arithmetic::Value;
use crate::problem::Error;
use crate::sample::Choices;
use crate::trace::write::Writer;

impl<V: Value, C: Choices> Teacher<'_, V, C> {
    /// The whole search.
    pub(super) fn in_waves(mut self, waves: &Waves) -> Result<Trace, Error> {
        let mut trace = Trace::default();
        let mut text = Writer::default();
        if waves.below != Below::SubSearches {
            self.move_to(ROOT, &mut text);
        }
        let goal = self.waves(waves, &mut text, &mut trace)?;
        trace.main_calls.push(text.as_str().to_owned());
        trace.solved = goal.is_some();
        Ok(trace)
    }

    /// One wave after another up to a goal, and the end.
    fn waves(&mut self, waves: &Waves, text: &mut Writer, trace: &mut Trace) -> Result<Option<NodeIndex>, Error> {
        self.fill_root()?;
        let mut ranked: Vec<usize> = (0..self.candidates.len()).collect();
        if waves.shuffled && !ranked.is_empty() {
            self.choices.shuffle(ranked.len(), &mut ranked)?;
        }
        // What two numbers become is shown at once: there is nothing below to search first.
        let last = self.node(ROOT).numbers().len() < 3;
        let steps = match waves.budget {
            Some(budget) if !last => budget.min(ranked.len()),
            _ => ranked.len(),
        };
        let mut shown = 0;
        loop {
            self.state(ROOT, text);
            let left = steps - shown;
            let size = if last || left == 0 { left } else { self.choices.wave(&waves.sizes)?.min(left) };
            // The searches of the wave before have left their own there.
            self.fill_root()?;
            self.order.clone_from(&ranked);
            let mut goal = self.show(ROOT, shown..shown + size, text)?;
            shown += size;
            trace.waves += 1;
            if !self.internal.is_empty() {
                goal = match waves.below {
                    Below::Children => self.spawn(waves.child_beam_size, text, trace)?,
                    Below::Main => self.one_by_one(waves.child_beam_size, text)?,
                    Below::SubSearches => match self.sub_searches(0, waves.child_beam_size, None, text)? {
                        None => None,
                        // It has written the end.
                        reached => return Ok(reached),
                    },
                };
            }
            if goal.is_some() || shown == steps {
                self.end(ROOT, goal, text);
                return Ok(goal);
            }
            self.move_to(ROOT, text);
        }
    }

    fn fill_root(&mut self) -> Result<(), Error> {
        self.candidates.fill(&self.nodes[ROOT as usize], &self.guide, &self.scorer, usize::MAX)
    }

    /// Searches the states of a wave in the thread that showed them.
    fn one_by_one(&mut self, beam_size: usize, text: &mut Writer) -> Result<Option<NodeIndex>, Error> {
        for (_, child) in std::mem::take(&mut self.internal) {
            let goal = self.walk(child, beam_size, None, text)?;
            if goal.is_some() {
                return Ok(goal);
            }
        }
        Ok(None)
    }
}
