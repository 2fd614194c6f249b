//! States on the way, and the children that an expansion keeps.
//!
//! Nodes live in one arena and name each other by index: a node is written once and never moved, and what led to it
//! is read off its parents.

use super::Guide;
use crate::arithmetic::combine;
use crate::heuristic::Scorer;
use crate::problem::{Error, MAX_NUMBERS, Number, Op, Step};

/// Index of a node in its arena.
pub(super) type NodeIndex = u32;

/// A state.
#[derive(Clone, Debug)]
pub(super) struct Node {
    numbers: [Number; MAX_NUMBERS],
    len: usize,
    /// Steps from the root.
    pub(super) depth: usize,
    path: [u16; MAX_NUMBERS],
    pub(super) parent: NodeIndex,
    /// The step from the parent; the root's is never read.
    pub(super) step: Step,
    /// Orders nodes on a frontier: by their heuristic, or as they were generated.
    pub(super) key: Number,
}

/// A child that an expansion may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    key: Number,
    pub(super) step: Step,
    /// Positions in the parent's numbers that the step combines.
    positions: (usize, usize),
}

const NO_STEP: Step = Step { left: 0, op: Op::Add, right: 0, result: 0 };

impl Node {
    pub(super) fn root(numbers: &[Number]) -> Node {
        let mut inline = [0; MAX_NUMBERS];
        inline[..numbers.len()].copy_from_slice(numbers);
        Node {
            numbers: inline,
            len: numbers.len(),
            depth: 0,
            path: [0; MAX_NUMBERS],
            parent: 0,
            step: NO_STEP,
            // The root is alone on its frontier: its key is never compared.
            key: 0,
        }
    }

    pub(super) fn numbers(&self) -> &[Number] {
        &self.numbers[..self.len]
    }

    /// The child indices on the way from the root.
    pub(super) fn path(&self) -> &[u16] {
        &self.path[..self.depth]
    }

    /// A child of this node, which is `parent`; `place` is its index among the kept ones.
    pub(super) fn child(&self, parent: NodeIndex, candidate: &Candidate, place: u16) -> Node {
        let mut child = Node {
            numbers: [0; MAX_NUMBERS],
            len: self.len - 1,
            depth: self.depth + 1,
            path: self.path,
            parent,
            step: candidate.step,
            key: candidate.key,
        };
        child.path[self.depth] = place;
        let kept = self.others(candidate.positions, &mut child.numbers);
        child.numbers[kept] = candidate.step.result;
        child
    }

    /// Copies the numbers at other positions than these, in order, and returns how many there are.
    fn others(&self, (i, j): (usize, usize), into: &mut [Number; MAX_NUMBERS]) -> usize {
        let mut kept = 0;
        for (position, &n) in self.numbers().iter().enumerate() {
            if position != i && position != j {
                into[kept] = n;
                kept += 1;
            }
        }
        kept
    }
}

/// The best children of one node.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// All that were among the best when they were generated.
    all: Vec<Candidate>,
    /// Keys and places in `all`, best first, ties in the order of generation.
    best: Vec<(Number, usize)>,
}

impl Candidates {
    /// Picks the best `beam_size` children of a node, as the guide has it.
    pub(super) fn fill(&mut self, node: &Node, guide: &Guide, scorer: &Scorer, beam_size: usize) -> Result<(), Error> {
        let largest = guide.largest.unwrap_or(Number::MAX);
        self.all.clear();
        self.best.clear();
        let mut distances = [0; MAX_NUMBERS];
        let mut sum: Number = 0;
        for (distance, &n) in distances.iter_mut().zip(node.numbers()) {
            *distance = scorer.distance(n);
            sum = sum.checked_add(*distance).ok_or(Error::Overflow)?;
        }
        for i in 0..node.len {
            for j in i + 1..node.len {
                let rest = sum - distances[i] - distances[j];
                for step in combine(node.numbers[i], node.numbers[j])?.iter() {
                    if step.result > largest {
                        continue;
                    }
                    let total = rest.checked_add(scorer.distance(step.result)).ok_or(Error::Overflow)?;
                    let key = match guide.systematic {
                        true => Number::from(step.op == Op::Add),
                        false => scorer.score_of(total, node.len - 1).key(),
                    };
                    // After its equals: ties stay in the order of generation.
                    let before = self.best.iter().rposition(|&(other, _)| other <= key);
                    let place = before.map_or(0, |place| place + 1);
                    if place < beam_size {
                        self.best.truncate(beam_size - 1);
                        self.best.insert(place, (key, self.all.len()));
                        self.all.push(Candidate { key, step: *step, positions: (i, j) });
                    }
                }
            }
        }
        Ok(())
    }

    /// How many were picked.
    pub(super) fn len(&self) -> usize {
        self.best.len()
    }

    /// The picked candidate at this place, the best at 0.
    pub(super) fn get(&self, place: usize) -> &Candidate {
        &self.all[self.best[place].1]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.best.iter().map(|&(_, place)| &self.all[place])
    }
}
