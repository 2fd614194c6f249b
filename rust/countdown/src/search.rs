//! The teacher's searches: SoS, SoS+ and APR over Countdown states, written out as traces.
//!
//! A [`Trace`] holds finished texts. `main_calls[r]` for `r < rounds` ends with a spawn block; the last is the thread
//! that ended. `children[r]` are the children of round r in index order. A trace is a pure function of problem,
//! parameters and choices (spec: arXiv 2504.15466, sections 3 and 4, best-first batches as in its code).

use crate::arithmetic::combine;
use crate::heuristic::{Heuristic, Score, Scorer};
use crate::problem::{Error, MAX_NUMBERS, Number, Op, Problem, Step};
use crate::sample::Choices;
use crate::trace::write::{ChildResult, Writer};
use crate::trace::{FAIL, NOTHING_IN_SUB_SEARCH};

/// A written search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The main thread's texts: one more than there are spawn rounds.
    pub main_calls: Vec<String>,
    /// Per spawn round the children in index order.
    pub children: Vec<Vec<Trace>>,
    /// Whether the goal was reached.
    pub solved: bool,
}

impl Trace {
    /// The final text of the main thread.
    pub fn text(&self) -> &str {
        self.main_calls.last().map_or("", String::as_str)
    }
}

/// A search and its widths.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Stream of Search: one thread, best-first batches, no sub searches.
    SosBfs {
        /// Width of expansion and batch.
        beam_size: usize,
    },
    /// Stream of Search: one thread, depth first, best child first.
    SosDfs {
        /// Width of expansion.
        beam_size: usize,
    },
    /// SoS+: one thread with serial sub searches at promising nodes.
    SosPlus {
        /// Width of expansion and batch.
        beam_size: usize,
        /// Probability that an expanded node is promising.
        promising: f64,
    },
    /// APR: children run as threads of their own.
    Apr {
        /// Width of the main thread.
        beam_size: usize,
        /// Width of the children.
        child_beam_size: usize,
        /// Probability that an expanded node is promising.
        promising: f64,
    },
}

impl Method {
    fn validate(&self) -> Result<(), Error> {
        let (beams, promising) = match *self {
            Method::SosBfs { beam_size } | Method::SosDfs { beam_size } => ([beam_size; 2], 0.0),
            Method::SosPlus { beam_size, promising } => ([beam_size; 2], promising),
            Method::Apr { beam_size, child_beam_size, promising } => ([beam_size, child_beam_size], promising),
        };
        if beams.contains(&0) {
            return Err(Error::Parameter("a beam is at least 1 wide".into()));
        }
        if !(0.0..=1.0).contains(&promising) {
            return Err(Error::Parameter(format!("promising is a probability, not {promising}")));
        }
        Ok(())
    }
}

/// Searches `problem` with `method`, taking every random choice from `choices`. The paper's data has [`Heuristic::Mult`].
///
/// # Errors
/// [`Error::Parameter`] for widths or probabilities out of range, [`Error::Overflow`] where a number grows past 128
/// bits, [`Error::Choice`] where recorded choices do not fit, and the errors of [`Scorer::new`].
pub fn search(
    problem: &Problem,
    method: &Method,
    heuristic: Heuristic,
    choices: &mut impl Choices,
) -> Result<Trace, Error> {
    method.validate()?;
    let mut teacher = Teacher {
        target: problem.target(),
        scorer: Scorer::new(heuristic, problem.target())?,
        choices,
        order: Vec::new(),
        candidates: Vec::new(),
    };
    let root = Node::root(problem.numbers());
    match *method {
        Method::SosBfs { beam_size } => teacher.serial(&root, beam_size, Serial::Batches { promising: None }),
        Method::SosDfs { beam_size } => teacher.serial(&root, beam_size, Serial::DepthFirst),
        Method::SosPlus { beam_size, promising } => {
            teacher.serial(&root, beam_size, Serial::Batches { promising: Some(promising) })
        }
        Method::Apr { beam_size, child_beam_size, promising } => {
            let spawning = Spawning { child_beam_size, promising };
            let mut trace = Trace::default();
            trace.solved = teacher.thread(&root, beam_size, Some(spawning), &mut trace)?;
            Ok(trace)
        }
    }
}

/// The kept children of a state, as an expansion shows them: best first, before the shuffle.
///
/// # Errors
/// As [`search`].
pub fn expand(
    numbers: &[Number],
    target: Number,
    heuristic: Heuristic,
    beam_size: usize,
) -> Result<Vec<(Score, Vec<Number>, Step)>, Error> {
    if numbers.len() > MAX_NUMBERS {
        return Err(Error::NumberCount(numbers.len()));
    }
    let scorer = Scorer::new(heuristic, target)?;
    let mut candidates = Vec::new();
    let parent = Node::root(numbers);
    parent.candidates(&scorer, beam_size, &mut candidates)?;
    Ok(candidates
        .iter()
        .map(|c| {
            let child = parent.child(c);
            (c.score, child.numbers().to_vec(), c.step)
        })
        .collect())
}

/// A state on the way: everything inline, so that nodes are copied and never allocated.
#[derive(Clone, Copy, Debug)]
struct Node {
    numbers: [Number; MAX_NUMBERS],
    len: usize,
    depth: usize,
    steps: [Step; MAX_NUMBERS],
    /// Positions in the parent's numbers that each step combined.
    positions: [(u8, u8); MAX_NUMBERS],
    path: [u16; MAX_NUMBERS],
    score: Score,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: Score,
    step: Step,
    positions: (u8, u8),
}

const NO_STEP: Step = Step { left: 0, op: Op::Add, right: 0, result: 0 };

impl Node {
    fn root(numbers: &[Number]) -> Node {
        let mut inline = [0; MAX_NUMBERS];
        inline[..numbers.len()].copy_from_slice(numbers);
        Node {
            numbers: inline,
            len: numbers.len(),
            depth: 0,
            steps: [NO_STEP; MAX_NUMBERS],
            positions: [(0, 0); MAX_NUMBERS],
            path: [0; MAX_NUMBERS],
            // The root is alone on its frontier: its score is never compared.
            score: Score::Integer(0),
        }
    }

    fn numbers(&self) -> &[Number] {
        &self.numbers[..self.len]
    }

    fn steps(&self) -> &[Step] {
        &self.steps[..self.depth]
    }

    fn path(&self) -> &[u16] {
        &self.path[..self.depth]
    }

    fn child(&self, candidate: &Candidate) -> Node {
        let mut child = *self;
        let (i, j) = (candidate.positions.0 as usize, candidate.positions.1 as usize);
        child.numbers.copy_within(j + 1..self.len, j);
        child.numbers.copy_within(i + 1..self.len - 1, i);
        child.numbers[self.len - 2] = candidate.step.result;
        child.len = self.len - 1;
        child.steps[self.depth] = candidate.step;
        child.positions[self.depth] = candidate.positions;
        child.path[self.depth] = 0;
        child.depth = self.depth + 1;
        child.score = candidate.score;
        child
    }

    /// The best `beam_size` children, ties in the order of generation.
    fn candidates(&self, scorer: &Scorer, beam_size: usize, into: &mut Vec<Candidate>) -> Result<(), Error> {
        into.clear();
        let mut rest = [0; MAX_NUMBERS];
        for i in 0..self.len {
            for j in i + 1..self.len {
                let mut kept = 0;
                for (position, &n) in self.numbers().iter().enumerate() {
                    if position != i && position != j {
                        rest[kept] = n;
                        kept += 1;
                    }
                }
                for step in combine(self.numbers[i], self.numbers[j])?.iter() {
                    rest[kept] = step.result;
                    let score = scorer.score(&rest[..=kept])?;
                    into.push(Candidate { score, step: *step, positions: (i as u8, j as u8) });
                }
            }
        }
        into.sort_by_key(|c| c.score);
        into.truncate(beam_size);
        Ok(())
    }
}

/// A binary heap with the exact mechanics of CPython's `heapq`: ties decide the order of traces.
#[derive(Clone, Debug)]
pub struct Heap<K, V> {
    items: Vec<(K, V)>,
}

impl<K: Ord + Copy, V: Copy> Default for Heap<K, V> {
    fn default() -> Heap<K, V> {
        Heap { items: Vec::new() }
    }
}

impl<K: Ord + Copy, V: Copy> Heap<K, V> {
    /// Adds an item.
    pub fn push(&mut self, key: K, value: V) {
        self.items.push((key, value));
        self.rise(0, self.items.len() - 1);
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<V> {
        let last = self.items.pop()?;
        let Some(first) = self.items.first_mut() else {
            return Some(last.1);
        };
        let top = std::mem::replace(first, last);
        let end = self.items.len();
        let mut hole = 0;
        while 2 * hole + 1 < end {
            let left = 2 * hole + 1;
            let right = left + 1;
            let smaller = if right < end && self.items[left].0 >= self.items[right].0 { right } else { left };
            self.items.swap(hole, smaller);
            hole = smaller;
        }
        self.rise(0, hole);
        Some(top.1)
    }

    /// The first item.
    pub fn top(&self) -> Option<&V> {
        self.items.first().map(|(_, v)| v)
    }

    fn rise(&mut self, start: usize, mut position: usize) {
        while position > start {
            let parent = (position - 1) / 2;
            if self.items[position].0 >= self.items[parent].0 {
                break;
            }
            self.items.swap(position, parent);
            position = parent;
        }
    }
}

#[derive(Clone, Copy)]
struct Spawning {
    child_beam_size: usize,
    promising: f64,
}

#[derive(Clone, Copy)]
enum Serial {
    Batches { promising: Option<f64> },
    DepthFirst,
}

/// What the walk over a node's shuffled children ended with.
enum Walk {
    Goal(Node),
    /// Kept children, best first.
    Internal(Vec<Node>),
}

struct Teacher<'a, C> {
    target: Number,
    scorer: Scorer,
    choices: &'a mut C,
    order: Vec<usize>,
    candidates: Vec<Candidate>,
}

impl<C: Choices> Teacher<'_, C> {
    /// Shows a node and its kept children in shuffled order.
    fn expand(&mut self, node: &Node, beam_size: usize, text: &mut Writer) -> Result<Walk, Error> {
        text.state(self.target, node.numbers(), node.steps());
        if node.len < 2 {
            return Ok(Walk::Internal(Vec::new()));
        }
        node.candidates(&self.scorer, beam_size, &mut self.candidates)?;
        self.choices.shuffle(self.candidates.len(), &mut self.order)?;
        let mut internal = Vec::with_capacity(self.candidates.len());
        for &index in &self.order {
            let mut child = node.child(&self.candidates[index]);
            let step = &child.steps[node.depth];
            if child.len > 1 {
                child.path[node.depth] = internal.len() as u16;
                text.explore_and_keep(self.target, step, child.numbers(), child.path());
                internal.push(child);
            } else {
                text.explore(step, child.numbers());
                if step.result == self.target {
                    return Ok(Walk::Goal(child));
                }
                text.dead(step.result, self.target);
            }
        }
        internal.sort_by_key(|n| n.score);
        Ok(Walk::Internal(internal))
    }

    /// The summary of a solution: the path from `start` to `goal` without what led nowhere, and the goal line.
    fn summary(&self, start: &Node, goal: &Node, text: &mut Writer) {
        text.move_to(start.path());
        let mut state = *start;
        for depth in start.depth..goal.depth {
            text.state(self.target, state.numbers(), state.steps());
            let step = goal.steps[depth];
            let mut next = state.child(&Candidate { score: state.score, step, positions: goal.positions[depth] });
            next.path[depth] = goal.path[depth];
            if next.len > 1 {
                text.explore_and_keep(self.target, &step, next.numbers(), next.path());
                text.move_to(next.path());
            } else {
                text.explore(&step, next.numbers());
            }
            state = next;
        }
        text.goal(self.target);
    }

    /// A serial search from the root.
    fn serial(&mut self, root: &Node, beam_size: usize, order: Serial) -> Result<Trace, Error> {
        let mut text = Writer::with_capacity(4096);
        let solved = match order {
            Serial::Batches { promising } => self.batches(root, root, 0, beam_size, promising, &mut text)?,
            Serial::DepthFirst => self.depth_first(root, beam_size, &mut text)?,
        };
        Ok(Trace { main_calls: vec![text.into_string()], children: Vec::new(), solved })
    }

    /// Best-first batches with nested sub searches; true if the goal was reached.
    fn batches(
        &mut self,
        root: &Node,
        start: &Node,
        level: usize,
        beam_size: usize,
        promising: Option<f64>,
        text: &mut Writer,
    ) -> Result<bool, Error> {
        let mut heap = Heap::default();
        heap.push(start.score, *start);
        loop {
            let batch: Vec<Node> = std::iter::from_fn(|| heap.pop()).take(beam_size).collect();
            for (index, node) in batch.iter().enumerate() {
                let internal = match self.expand(node, beam_size, text)? {
                    Walk::Goal(goal) => {
                        text.goal(self.target);
                        self.summary(root, &goal, text);
                        return Ok(true);
                    }
                    Walk::Internal(internal) => internal,
                };
                // Drawn for nodes without internal children too: recorded choices count on it. A start node that is
                // one number was never expanded.
                let draws = node.len > 1;
                let search_below = match promising {
                    Some(probability) if draws => self.choices.promising(probability)?,
                    _ => false,
                };
                for child in &internal {
                    if !search_below {
                        heap.push(child.score, *child);
                        continue;
                    }
                    text.start_sub_search(level + 1, child.path());
                    let solved = self.batches(root, child, level + 1, beam_size, promising, text)?;
                    text.exit_sub_search(level + 1);
                    if solved {
                        return Ok(true);
                    }
                    text.phrase(NOTHING_IN_SUB_SEARCH);
                }
                if let Some(next) = batch.get(index + 1) {
                    text.move_to(next.path());
                }
            }
            match heap.top() {
                Some(next) => text.move_to(next.path()),
                None => break,
            }
        }
        text.phrase(FAIL);
        Ok(false)
    }

    /// Depth first, the best child first; true if the goal was reached.
    fn depth_first(&mut self, root: &Node, beam_size: usize, text: &mut Writer) -> Result<bool, Error> {
        let mut stack = vec![*root];
        while let Some(node) = stack.pop() {
            match self.expand(&node, beam_size, text)? {
                Walk::Goal(goal) => {
                    text.goal(self.target);
                    self.summary(root, &goal, text);
                    return Ok(true);
                }
                Walk::Internal(internal) => stack.extend(internal.iter().rev()),
            }
            if let Some(next) = stack.last() {
                text.move_to(next.path());
            }
        }
        text.phrase(FAIL);
        Ok(false)
    }

    /// One APR thread from `start`; true if the goal was reached. Only a thread that is given `spawning` spawns.
    fn thread(
        &mut self,
        start: &Node,
        beam_size: usize,
        spawning: Option<Spawning>,
        trace: &mut Trace,
    ) -> Result<bool, Error> {
        let (solved, text, _) = self.thread_text(start, beam_size, spawning, trace)?;
        trace.main_calls.push(text.into_string());
        Ok(solved)
    }

    fn thread_text(
        &mut self,
        start: &Node,
        beam_size: usize,
        spawning: Option<Spawning>,
        trace: &mut Trace,
    ) -> Result<(bool, Writer, Option<Node>), Error> {
        let mut text = Writer::with_capacity(4096);
        text.move_to(start.path());
        let mut heap = Heap::default();
        heap.push(start.score, *start);
        loop {
            let batch: Vec<Node> = std::iter::from_fn(|| heap.pop()).take(beam_size).collect();
            for (index, node) in batch.iter().enumerate() {
                let internal = match self.expand(node, beam_size, &mut text)? {
                    Walk::Goal(goal) => {
                        text.goal(self.target);
                        self.summary(start, &goal, &mut text);
                        return Ok((true, text, Some(goal)));
                    }
                    Walk::Internal(internal) => internal,
                };
                let spawn = match spawning {
                    Some(spawning) if internal.len() > 1 && self.choices.promising(spawning.promising)? => {
                        Some(spawning.child_beam_size)
                    }
                    _ => None,
                };
                match spawn {
                    Some(child_beam_size) => {
                        if let Some(goal) = self.spawn(&internal, child_beam_size, &mut text, trace)? {
                            text.goal(self.target);
                            self.summary(start, &goal, &mut text);
                            return Ok((true, text, Some(goal)));
                        }
                    }
                    None => internal.iter().for_each(|child| heap.push(child.score, *child)),
                }
                if let Some(next) = batch.get(index + 1) {
                    text.move_to(next.path());
                }
            }
            match heap.top() {
                Some(next) => text.move_to(next.path()),
                None => break,
            }
        }
        text.phrase(FAIL);
        Ok((false, text, None))
    }

    /// Runs every child to its end and joins them: the text so far is closed with the spawn block, and goes on with
    /// the join block in its place. The goal of the first child that reached it.
    fn spawn(
        &mut self,
        children: &[Node],
        beam_size: usize,
        text: &mut Writer,
        trace: &mut Trace,
    ) -> Result<Option<Node>, Error> {
        let mut round = Vec::with_capacity(children.len());
        let mut results = Vec::with_capacity(children.len());
        let mut goal = None;
        for child in children {
            let mut child_trace = Trace::default();
            let (solved, child_text, child_goal) = self.thread_text(child, beam_size, None, &mut child_trace)?;
            let mut id = Writer::default();
            id.id(child.path());
            let mut summary = Writer::default();
            if let Some(child_goal) = child_goal {
                self.summary(child, &child_goal, &mut summary);
                goal = goal.or(Some(child_goal));
            }
            results.push((id.into_string(), solved.then(|| summary.into_string())));
            child_trace.main_calls.push(child_text.into_string());
            child_trace.solved = solved;
            round.push(child_trace);
        }
        let mut finished = Writer::with_capacity(text.len() + 2048);
        finished.phrase(text.as_str());
        finished.spawn_block(1, children.iter().map(Node::path));
        trace.main_calls.push(finished.into_string());
        trace.children.push(round);
        text.join_block(
            1,
            results.iter().map(|(id, summary)| {
                (id.as_str(), summary.as_deref().map_or(ChildResult::Failed, ChildResult::Solved))
            }),
        );
        Ok(goal)
    }
}
