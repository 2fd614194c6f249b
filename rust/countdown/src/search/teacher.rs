//! The walks over states, written line by line.

use std::ops::Range;

use super::heap::Heap;
use super::node::{Candidates, Node, NodeIndex, rank};
use super::{Guide, Ranking, Trace};
use crate::arithmetic::Value;
use crate::heuristic::{Heuristic, Score, Scorer};
use crate::problem::{Error, MAX_NUMBERS, Number, Step};
use crate::sample::Choices;
use crate::trace::write::Writer;
use crate::trace::{CHILD_FAILED, CHILD_SOLVED, END_JOIN, END_RESULT, FAIL, JOIN, NOTHING_IN_SUB_SEARCH};

type Frontier<V> = Heap<V, NodeIndex>;

/// The widths of an APR search.
#[derive(Clone, Copy)]
pub(super) struct Spawning {
    pub(super) child_beam_size: usize,
    pub(super) promising: f64,
}

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
    spare: (Frontier<V>, Vec<NodeIndex>),
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

    fn key(&self, index: NodeIndex) -> V {
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
    fn expand(&mut self, index: NodeIndex, beam_size: usize, text: &mut Writer) -> Result<Option<NodeIndex>, Error> {
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
        for &place in &self.order[places] {
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
        Ok(None)
    }

    /// The summary of a solution: the path from `start` to `goal` without what led nowhere, and the goal line.
    fn summary(&self, start: NodeIndex, goal: NodeIndex, text: &mut Writer) {
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
    fn finish(&self, start: NodeIndex, goal: NodeIndex, text: &mut Writer) {
        text.goal(self.target);
        self.summary(start, goal, text);
    }

    /// SoS and SoS+: best-first batches from the root, with nested sub searches where `promising` is given.
    pub(super) fn best_first(mut self, beam_size: usize, promising: Option<f64>) -> Result<Trace, Error> {
        let mut text = Writer::default();
        let solved = self.batches(ROOT, 0, beam_size, promising, &mut text)?.is_some();
        Ok(Trace { main_calls: vec![text.as_str().to_owned()], children: Vec::new(), solved })
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

    fn push_internal(&self, heap: &mut Frontier<V>) {
        for &(key, child) in &self.internal {
            heap.push(key, child);
        }
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
        Ok(Trace { main_calls: vec![text.as_str().to_owned()], children: Vec::new(), solved })
    }

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

    /// The goal's line and the summary from `start` on, or that there is no solution: what a thread ends with.
    pub(super) fn end(&self, start: NodeIndex, goal: Option<NodeIndex>, text: &mut Writer) {
        match goal {
            Some(goal) => self.finish(start, goal, text),
            None => text.phrase(FAIL),
        }
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
                children: Vec::new(),
                solved: goal.is_some(),
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
