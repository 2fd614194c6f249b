//! States on the way, and the children that an expansion keeps.
//!
//! Nodes live in one arena and name each other by index: a node is written once and never moved, and what led to it
//! is read off its parents.

use super::{Guide, Ranking};
use crate::arithmetic::{Value, combine};
use crate::heuristic::Scorer;
use crate::problem::{Error, MAX_NUMBERS, Number, Op, Step};
use crate::trial::times;

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

/// Whether the guide leaves out a step at `positions` with this result.
fn left_out<V: Value>(
    node: &Node<V>,
    positions: (usize, usize),
    result: V,
    guide: &Guide,
    scorer: &Scorer<V>,
) -> Result<bool, Error> {
    if guide.largest.is_some_and(|largest| result.into() > largest) {
        return Ok(true);
    }
    guide.slack.map_or(Ok(false), |slack| too_far(node, positions, result, scorer.target(), slack))
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

/// Whether the quotient of a pair is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotient {
    /// If there is one.
    Shown,
    /// After a trial; it is one if the flag is set.
    Tried(bool),
    /// Never: there is none, or it leads nowhere.
    LeftOut,
}

impl Quotient {
    /// Of the numbers at `positions`, of which those above `most` are large; its trial is written to `steps`.
    ///
    /// With two numbers left the target is tried, where its product is not far from the dividend: neither is more than
    /// twice the other. Else the division is written out. Either ends with a difference, and a quotient follows if that
    /// is zero.
    fn of<V: Value>(
        node: &Node<V>,
        (i, j): (usize, usize),
        most: Number,
        guide: &Guide,
        scorer: &Scorer<V>,
        steps: &mut Vec<Step<V>>,
    ) -> Result<Quotient, Error> {
        steps.clear();
        let (left, right) = (node.numbers[i], node.numbers[j]);
        let (dividend, divisor) = if left > right { (left, right) } else { (right, left) };
        let two = V::from(2);
        if dividend.into() <= most || divisor < two || dividend == divisor {
            return Ok(Quotient::Shown);
        }
        if dividend / two < divisor {
            return Ok(Quotient::LeftOut);
        }
        if node.len > 2 {
            if left_out(node, (i, j), dividend / divisor, guide, scorer)? {
                return Ok(Quotient::LeftOut);
            }
            return Ok(Quotient::Tried(divide(dividend, divisor, steps) == V::default()));
        }
        let times = scorer.target();
        // What does not fit is no dividend.
        let Some(product) = divisor.checked_mul(times) else { return Ok(Quotient::LeftOut) };
        let (more, less) = if product > dividend { (product, dividend) } else { (dividend, product) };
        if more / two > less {
            return Ok(Quotient::LeftOut);
        }
        steps.push(Step { left: divisor, op: Op::Mul, right: times, result: product });
        steps.push(Step { left: more, op: Op::Sub, right: less, result: more - less });
        Ok(Quotient::Tried(more == less))
    }
}

/// Writes a division out, digit by digit of the quotient but for zeros: what it takes of the divisor, and what is left
/// then. The remainder.
fn divide<V: Value>(dividend: V, divisor: V, steps: &mut Vec<Step<V>>) -> V {
    let mut rest = dividend;
    while let Some(times) = times(rest, divisor) {
        let product = divisor * times;
        steps.push(Step { left: divisor, op: Op::Mul, right: times, result: product });
        steps.push(Step { left: rest, op: Op::Sub, right: product, result: rest - product });
        rest = rest - product;
    }
    rest
}

/// The best children of one node.
#[derive(Debug, Default)]
pub(super) struct Candidates<V> {
    /// All that were among the best when they were generated.
    all: Vec<Candidate<V>>,
    /// Keys and places in `all`, best first, ties in the order of generation.
    best: Vec<(V, usize)>,
    /// The steps of trials, and the place among the best that each is shown before.
    trials: Vec<(usize, Step<V>)>,
    /// The trial of a pair.
    trial: Vec<Step<V>>,
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
        self.trials.clear();
        let mut distances = [V::default(); MAX_NUMBERS];
        let mut sum = V::default();
        for (distance, &n) in distances.iter_mut().zip(node.numbers()) {
            *distance = scorer.distance(n);
            sum = sum.checked_add(*distance).ok_or(Error::Overflow)?;
        }
        for i in 0..node.len {
            for j in i + 1..node.len {
                let rest = sum - distances[i] - distances[j];
                let quotient = match guide.trials {
                    Some(most) => Quotient::of(node, (i, j), most, guide, scorer, &mut self.trial)?,
                    None => Quotient::Shown,
                };
                for step in combine(node.numbers[i], node.numbers[j])?.iter() {
                    if step.op == Op::Div {
                        self.try_next(beam_size);
                        if matches!(quotient, Quotient::Tried(false) | Quotient::LeftOut) {
                            continue;
                        }
                    }
                    if left_out(node, (i, j), step.result, guide, scorer)? {
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
                self.try_next(beam_size);
            }
        }
        Ok(())
    }

    /// Has the trial of the pair stand before the next candidate of the first kind, if that may be one of the best.
    fn try_next(&mut self, beam_size: usize) {
        if self.trial.is_empty() {
            return;
        }
        // Differences and quotients, which the ranking kinds has at 0.
        let place = self.best.partition_point(|&(key, _)| key <= V::default());
        if place < beam_size {
            self.trials.extend(self.trial.iter().map(|&step| (place, step)));
        }
        self.trial.clear();
    }

    /// What is tried before the candidate at this place, or, at the place after the last one, after it.
    pub(super) fn trials(&self, place: usize) -> impl Iterator<Item = &Step<V>> {
        self.trials.iter().filter(move |(before, _)| *before == place).map(|(_, trial)| trial)
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
