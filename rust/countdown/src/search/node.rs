//! States on the way, and the children that an expansion keeps.
//!
//! Nodes live in one arena and name each other by index: a node is written once and never moved, and what led to it
//! is read off its parents.

use super::{Guide, Ranking};
use crate::arithmetic::{Value, combine};
use crate::heuristic::Scorer;
use crate::problem::{Error, MAX_NUMBERS, Op, Step};
use crate::solve::can_reach;

/// Index of a node in its arena.
pub(super) type NodeIndex = u32;

/// A state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<V> {
    numbers: [V; MAX_NUMBERS],
    len: usize,
    /// Steps from the root.
    pub(super) depth: usize,
    path: [u16; MAX_NUMBERS],
    pub(super) parent: NodeIndex,
    /// The step from the parent; the root's is never read.
    pub(super) step: Step<V>,
    /// Orders nodes on a frontier: by their heuristic, or as they were generated.
    pub(super) key: V,
}

/// A child that an expansion may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<V> {
    key: V,
    pub(super) step: Step<V>,
    /// Positions in the parent's numbers that the step combines.
    positions: (usize, usize),
}

impl<V: Value> Node<V> {
    pub(super) fn root(numbers: &[V]) -> Node<V> {
        let none = V::default();
        let mut inline = [none; MAX_NUMBERS];
        inline[..numbers.len()].copy_from_slice(numbers);
        Node {
            numbers: inline,
            len: numbers.len(),
            depth: 0,
            path: [0; MAX_NUMBERS],
            parent: 0,
            step: Step { left: none, op: Op::Add, right: none, result: none },
            // The root is alone on its frontier: its key is never compared.
            key: none,
        }
    }

    pub(super) fn numbers(&self) -> &[V] {
        &self.numbers[..self.len]
    }

    /// The child indices on the way from the root.
    pub(super) fn path(&self) -> &[u16] {
        &self.path[..self.depth]
    }

    /// Makes this copy of the node `parent` a child of it; `place` is its index among the kept ones.
    ///
    /// In place: a node that is written in parts and then moved as a whole waits for its parts.
    pub(super) fn descend(&mut self, parent: NodeIndex, candidate: &Candidate<V>, place: u16) {
        let (i, j) = candidate.positions;
        let mut kept = 0;
        for position in 0..self.len {
            if position != i && position != j {
                self.numbers[kept] = self.numbers[position];
                kept += 1;
            }
        }
        self.numbers[kept] = candidate.step.result;
        self.len = kept + 1;
        self.path[self.depth] = place;
        self.depth += 1;
        self.parent = parent;
        self.step = candidate.step;
        self.key = candidate.key;
    }
}

/// Whether the numbers after a step at `positions` hold one that is more than `slack` times what the others could bring
/// down to the target: a number n divides by n at most, and one below two makes another number at most twice as great.
/// Only a zero brings down any number, by its product, so nothing is too far where the others make one.
fn too_far<V: Value>(
    node: &Node<V>,
    positions: (usize, usize),
    result: V,
    target: V,
    slack: u32,
) -> Result<bool, Error> {
    let two = V::from(2);
    let (mut left, len) = after(node.numbers(), positions, result);
    let left = &mut left[..len];
    let greatest = (0..len).max_by_key(|&k| left[k]).unwrap_or_default();
    left.swap(0, greatest);
    let (greatest, others) = (left[0], &left[1..]);
    let reach = V::from(i64::from(slack)).checked_mul(target.max(two));
    let reach = others.iter().fold(reach, |reach, &n| reach.and_then(|reach| reach.checked_mul(n.max(two))));
    // Beyond what fits there is nothing to compare with.
    Ok(reach.is_some_and(|reach| greatest > reach) && !makes_zero(others)?)
}

/// Whether the numbers after a step at `positions` still reach the target.
fn leads_on<V: Value>(node: &Node<V>, positions: (usize, usize), result: V, target: V) -> Result<bool, Error> {
    let (left, len) = after(node.numbers(), positions, result);
    can_reach(&left.map(V::into)[..len], target.into())
}

/// The result of a step at these positions and then the numbers that it leaves, and how many all are.
fn after<V: Value>(numbers: &[V], (i, j): (usize, usize), result: V) -> ([V; MAX_NUMBERS], usize) {
    let mut left = [result; MAX_NUMBERS];
    let others = numbers.iter().enumerate().filter(|&(k, _)| k != i && k != j);
    let len = others.zip(&mut left[1..]).map(|((_, &number), place)| *place = number).count();
    (left, len + 1)
}

/// Whether some of the numbers, each used at most once, make a zero.
fn makes_zero<V: Value>(numbers: &[V]) -> Result<bool, Error> {
    let pairs = || (0..numbers.len()).flat_map(|i| (i + 1..numbers.len()).map(move |j| (i, j)));
    if numbers.contains(&V::default()) || pairs().any(|(i, j)| numbers[i] == numbers[j]) {
        return Ok(true);
    }
    if numbers.len() < 3 {
        return Ok(false);
    }
    for (i, j) in pairs() {
        for step in combine(numbers[i], numbers[j])?.iter() {
            let (rest, len) = after(numbers, (i, j), step.result);
            if makes_zero(&rest[..len])? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Puts an item into a list ordered by keys, after its equals: ties stay in the order of arrival.
pub(super) fn rank<K: Ord + Copy, T: Copy>(list: &mut Vec<(K, T)>, key: K, item: T) {
    let mut place = list.len();
    list.push((key, item));
    while place > 0 && list[place - 1].0 > key {
        list[place] = list[place - 1];
        place -= 1;
    }
    list[place] = (key, item);
}

/// The best children of one node.
#[derive(Debug, Default)]
pub(super) struct Candidates<V> {
    /// All that were among the best when they were generated.
    all: Vec<Candidate<V>>,
    /// Keys and places in `all`, best first, ties in the order of generation.
    best: Vec<(V, usize)>,
}

impl<V: Value> Candidates<V> {
    /// Picks the best `beam_size` children of a node, as the guide has it.
    pub(super) fn fill(
        &mut self,
        node: &Node<V>,
        guide: &Guide,
        scorer: &Scorer<V>,
        beam_size: usize,
    ) -> Result<(), Error> {
        self.all.clear();
        self.best.clear();
        let mut distances = [V::default(); MAX_NUMBERS];
        let mut sum = V::default();
        for (distance, &n) in distances.iter_mut().zip(node.numbers()) {
            *distance = scorer.distance(n);
            sum = sum.checked_add(*distance).ok_or(Error::Overflow)?;
        }
        for i in 0..node.len {
            for j in i + 1..node.len {
                let rest = sum - distances[i] - distances[j];
                for step in combine(node.numbers[i], node.numbers[j])?.iter() {
                    if guide.largest.is_some_and(|largest| step.result.into() > largest) {
                        continue;
                    }
                    if let Some(slack) = guide.slack
                        && too_far(node, (i, j), step.result, scorer.target(), slack)?
                    {
                        continue;
                    }
                    if step.op == Op::Div
                        && guide.quotients.is_some_and(|most| step.left.into() > most)
                        && !leads_on(node, (i, j), step.result, scorer.target())?
                    {
                        continue;
                    }
                    let total = rest.checked_add(scorer.distance(step.result)).ok_or(Error::Overflow)?;
                    let key = match guide.ranking {
                        Ranking::Paper | Ranking::Heuristic => scorer.key(total, node.len - 1),
                        Ranking::SumsLast => V::from(i64::from(step.op == Op::Add)),
                        Ranking::Kinds => V::from(match step.op {
                            Op::Sub | Op::Div => 0,
                            Op::Add => 1,
                            Op::Mul => 2,
                        }),
                        Ranking::Smallest => step.result,
                    };
                    if self.best.len() == beam_size {
                        if self.best[beam_size - 1].0 <= key {
                            continue;
                        }
                        self.best.pop();
                    }
                    rank(&mut self.best, key, self.all.len());
                    self.all.push(Candidate { key, step: *step, positions: (i, j) });
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
    pub(super) fn get(&self, place: usize) -> &Candidate<V> {
        &self.all[self.best[place].1]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate<V>> {
        self.best.iter().map(|&(_, place)| &self.all[place])
    }
}
