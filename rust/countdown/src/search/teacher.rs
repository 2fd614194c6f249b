//! The walks over states, written line by line.

use std::ops::Range;

use super::heap::Heap;
use super::node::{Candidates, Node, NodeIndex, rank};
use super::{Guide, Ranking};
use crate::arithmetic::Value;
use crate::heuristic::{Heuristic, Score, Scorer};
use crate::problem::{Error, MAX_NUMBERS, Number, Step};
use crate::sample::Choices;
use crate::trace::FAIL;
use crate::trace::write::Writer;

type Frontier<V> = Heap<V, NodeIndex>;

/// One search of one problem.
pub(super) struct Teacher<'a, V, C> {
    target: V,
    pub(super) guide: Guide,
    pub(super) scorer: Scorer<V>,
    pub(super) choices: &'a mut C,
    /// Every node of the search; the root first.
    pub(super) nodes: Vec<Node<V>>,
    pub(super) candidates: Candidates<V>,
    pub(super) order: Vec<usize>,
    /// Kept children of the node expanded last and their keys, in the order of visits; none where it reached the goal.
    pub(super) internal: Vec<(V, NodeIndex)>,
    /// An emptied frontier and batch, for the next thread.
    pub(super) spare: (Frontier<V>, Vec<NodeIndex>),
}

pub(super) const ROOT: NodeIndex = 0;

impl<'a, V: Value, C: Choices> Teacher<'a, V, C> {
    pub(super) fn new(numbers: &[V], target: V, guide: Guide, choices: &'a mut C) -> Result<Teacher<'a, V, C>, Error> {
        let mut nodes = Vec::with_capacity(64);
        nodes.push(Node::root(numbers));
        let heuristic = match guide.ranking {
            Ranking::Paper | Ranking::Heuristic => guide.heuristic,
            // Not asked; this one takes any target.
            _ => Heuristic::Sum,
        };
        Ok(Teacher {
            target,
            guide,
            scorer: Scorer::new(heuristic, target)?,
            choices,
            nodes,
            candidates: Candidates::default(),
            order: Vec::new(),
            internal: Vec::new(),
            spare: Default::default(),
        })
    }

    pub(super) fn node(&self, index: NodeIndex) -> &Node<V> {
        &self.nodes[index as usize]
    }

    pub(super) fn key(&self, index: NodeIndex) -> V {
        self.node(index).key
    }

    pub(super) fn move_to(&self, index: NodeIndex, text: &mut Writer) {
        text.move_to(self.node(index).path());
    }

    pub(super) fn state(&self, index: NodeIndex, text: &mut Writer) {
        let node = self.node(index);
        let mut above = node;
        let mut steps = [&node.step; MAX_NUMBERS];
        for depth in (0..node.depth).rev() {
            steps[depth] = &above.step;
            above = self.node(above.parent);
        }
        text.state(self.target, node.numbers(), steps[..node.depth].iter().copied());
    }

    /// Shows a node and its kept children, up to a goal; fills `internal`.
    pub(super) fn expand(
        &mut self,
        index: NodeIndex,
        beam_size: usize,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        self.internal.clear();
        self.state(index, text);
        let node = &self.nodes[index as usize];
        if node.numbers().len() < 2 {
            return Ok(None);
        }
        self.candidates.fill(node, &self.guide, &self.scorer, beam_size)?;
        if self.guide.ranking == Ranking::Paper {
            self.choices.shuffle(self.candidates.len(), &mut self.order)?;
        } else {
            self.order.clear();
            self.order.extend(0..self.candidates.len());
        }
        self.show(index, 0..self.candidates.len(), text)
    }

    /// Shows the candidates of a node at these places of the order, up to a goal; they become its `internal` children.
    pub(super) fn show(
        &mut self,
        index: NodeIndex,
        places: Range<usize>,
        text: &mut Writer,
    ) -> Result<Option<NodeIndex>, Error> {
        self.internal.clear();
        let left = self.node(index).numbers().len();
        let first = places.start;
        let last = places.end == self.candidates.len();
        for &place in &self.order[places] {
            self.candidates.trials(place).for_each(|trial| text.trial(trial));
            let candidate = self.candidates.get(place);
            let step = &candidate.step;
            if left == 2 {
                text.explore(step, &[step.result]);
                if step.result != self.target {
                    text.dead(step.result, self.target);
                    continue;
                }
            }
            let child_index = self.nodes.len();
            self.nodes.push(self.nodes[index as usize]);
            let child = &mut self.nodes[child_index];
            let child_index = child_index as NodeIndex;
            child.descend(index, candidate, (first + self.internal.len()) as u16);
            if self.guide.ranking != Ranking::Paper {
                child.key = V::from(i64::from(child_index));
            }
            if left == 2 {
                return Ok(Some(child_index));
            }
            text.explore_and_keep(self.target, step, child.numbers(), child.path());
            rank(&mut self.internal, child.key, child_index);
        }
        if last {
            self.candidates.trials(self.candidates.len()).for_each(|trial| text.trial(trial));
        }
        Ok(None)
    }

    /// The summary of a solution: the path from `start` to `goal` without what led nowhere, and the goal line.
    pub(super) fn summary(&self, start: NodeIndex, goal: NodeIndex, text: &mut Writer) {
        self.move_to(start, text);
        let mut path = Vec::with_capacity(MAX_NUMBERS);
        let mut index = goal;
        while index != start {
            path.push(index);
            index = self.node(index).parent;
        }
        for &next in path.iter().rev() {
            let node = self.node(next);
            self.state(node.parent, text);
            if next == goal {
                text.explore(&node.step, node.numbers());
            } else {
                text.explore_and_keep(self.target, &node.step, node.numbers(), node.path());
                text.move_to(node.path());
            }
        }
        text.goal(self.target);
    }

    /// The goal line and the summary that ends a thread.
    pub(super) fn finish(&self, start: NodeIndex, goal: NodeIndex, text: &mut Writer) {
        text.goal(self.target);
        self.summary(start, goal, text);
    }

    /// The goal's line and the summary from `start` on, or that there is no solution: what a thread ends with.
    pub(super) fn end(&self, start: NodeIndex, goal: Option<NodeIndex>, text: &mut Writer) {
        match goal {
            Some(goal) => self.finish(start, goal, text),
            None => text.phrase(FAIL),
        }
    }

    /// Puts the children shown last on a frontier.
    pub(super) fn push_internal(&self, heap: &mut Frontier<V>) {
        for &(key, child) in &self.internal {
            heap.push(key, child);
        }
    }
}

/// The kept children of a state, best first.
pub(super) fn kept(
    numbers: &[Number],
    guide: &Guide,
    scorer: &Scorer,
    beam_size: usize,
) -> Result<Vec<(Score, Vec<Number>, Step)>, Error> {
    let parent = Node::root(numbers);
    let mut candidates = Candidates::default();
    candidates.fill(&parent, guide, scorer, beam_size)?;
    let shown = |c| {
        let mut child = parent;
        child.descend(ROOT, c, 0);
        Ok((scorer.score(child.numbers())?, child.numbers().to_vec(), child.step))
    };
    candidates.iter().map(shown).collect()
}
