//! What teacher traces teach: token sequences with a mask of what the model itself must write, and what kind of token
//! each of these is.
//!
//! A sample is `<s>`, a prompt, and what follows it. The loss mask is true on text that the model writes and on the end
//! token; it is false on prompts, on a trunk that an earlier sample of the same thread trains, and on join blocks. A
//! thread that spawns ends with its spawn block, without an end token. Lesson i of a stream is a pure function of
//! (seed, i).

pub mod kind;
mod teacher;

pub use self::teacher::Teacher;
use crate::inspect::first_state;
use crate::llama2::llama2_tokens;
use crate::problem::{Error, Number};
use crate::sample::{Choices, ProblemSpace, ProblemStream, Random, for_search};
use crate::search::{Below, Guide, Method, Trace, Waves, search};
use crate::tokens::{BOS, EOS, Tokenizer};
use crate::trace::{
    CHILD_BUDGET, CHILD_CANCELLED, CHILD_FAILED, CHILD_SOLVED, END_JOIN, END_OPERATIONS, EQUAL, EXPLORE, NO_OPERATIONS,
    SPAWN, STATE, TARGET_LIST, TOKEN_BUDGET, TOKEN_BUDGET_BIN, UNEQUAL,
};

const WIDTH_STREAM: u64 = 2;
const LESSON_STREAM: u64 = 4;
const CONDITION_STREAM: u64 = 5;
const MAX_DRAWS: u64 = 10_000;

/// One row of supervised training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The sequence, `<s>` first.
    pub token_ids: Vec<u32>,
    /// True where the model itself writes the token; as long as `token_ids`.
    pub loss_mask: Vec<bool>,
    /// Whether the thread spawns, and what it writes here is no solution: it chooses.
    pub choosing: bool,
}

/// A stream of problems with their teacher traces.
#[derive(Clone, Debug)]
pub struct TraceStream {
    problems: ProblemStream,
    teacher: Teacher,
    guide: Guide,
    conditioned: f64,
    rounds: usize,
    main: bool,
    seed: u64,
}

/// An item of a [`TraceStream`].
#[derive(Clone, Debug, PartialEq)]
pub struct TraceItem {
    /// The problem.
    pub problem: crate::Problem,
    /// The search it was given.
    pub method: Method,
    /// What that wrote.
    pub trace: Trace,
    /// What stands before the root's prompt: the child or token budget, if it names one.
    pub condition: Option<String>,
}

impl TraceStream {
    /// The stream of a space, a teacher, what it goes by, the share of root prompts that name a budget, and a seed.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a space, widths or a share that make no sense.
    pub fn new(
        space: &ProblemSpace,
        teacher: Teacher,
        guide: Guide,
        conditioned: f64,
        seed: u64,
    ) -> Result<TraceStream, Error> {
        teacher.method(true, &mut Random::new(seed, WIDTH_STREAM, 0))?;
        if !(0.0..=1.0).contains(&conditioned) {
            return Err(Error::Parameter(format!("conditioned is a share, not {conditioned}")));
        }
        Ok(TraceStream { problems: space.stream(seed)?, teacher, guide, conditioned, rounds: 0, main: true, seed })
    }

    /// The same, of searches in at least so many waves: problems that are solved sooner are passed over.
    pub fn lasting(self, rounds: usize) -> TraceStream {
        TraceStream { rounds, ..self }
    }

    /// The same, of which lessons take children with large numbers alone (see [`LessonPlan::children_above`]).
    pub fn of_large_children(self) -> TraceStream {
        TraceStream { main: false, ..self }
    }

    /// Item `i`.
    ///
    /// # Errors
    /// As [`ProblemStream::get`] and [`search`]; [`Error::Parameter`] if no search seems to last so long.
    pub fn get(&self, item: u64) -> Result<TraceItem, Error> {
        for draw in 0..MAX_DRAWS {
            // The first is the item itself; those after it are far from any that is asked for.
            let found = self.draw(item.wrapping_add(draw << 40))?;
            if found.trace.waves >= self.rounds {
                return Ok(found);
            }
        }
        Err(Error::Parameter(format!("no search lasts {} rounds", self.rounds)))
    }

    fn draw(&self, item: u64) -> Result<TraceItem, Error> {
        let problem = self.problems.get(item)?;
        let conditioned = Random::new(self.seed, CONDITION_STREAM, item).promising(self.conditioned)?;
        let method = self.teacher.method(conditioned, &mut Random::new(self.seed, WIDTH_STREAM, item))?;
        let trace = search(&problem, &method, self.guide, &mut for_search(self.seed, item))?;
        let condition = conditioned.then(|| condition(&method, &trace));
        Ok(TraceItem { problem, method, trace, condition })
    }
}

/// How a trace becomes samples.
#[derive(Clone, Debug, PartialEq)]
pub struct LessonPlan {
    /// At most so many children of a trace are taken; a child that reached the goal is taken first.
    pub children: usize,
    /// Then those that begin with a number above this, if any: they are rare, and the hardest.
    pub children_above: Option<Number>,
    /// Share of solved rounds that are joined as the policy `first` would: longer siblings of the winner are cancelled.
    pub cancelled: f64,
    /// Longer samples are left out; sequences are never cut.
    pub max_tokens: usize,
}

/// A stream of lessons from a mix of trace streams.
#[derive(Clone, Debug)]
pub struct LessonStream {
    /// Running sums of the weights, and the streams.
    parts: Vec<(f64, TraceStream)>,
    plan: LessonPlan,
    tokenizer: Tokenizer,
    seed: u64,
}

impl LessonStream {
    /// Each lesson takes its trace from one of `parts`, by weight; item numbers are shared by all of them.
    ///
    /// # Errors
    /// [`Error::Parameter`] without parts, or for a weight that is no positive number.
    pub fn new(parts: Vec<(f64, TraceStream)>, plan: LessonPlan, seed: u64) -> Result<LessonStream, Error> {
        if parts.is_empty() || parts.iter().any(|(weight, _)| !(*weight > 0.0 && weight.is_finite())) {
            return Err(Error::Parameter("a mix of lessons needs parts with positive weights".into()));
        }
        let mut sum = 0.0;
        let running = |(weight, traces)| {
            sum += weight;
            (sum, traces)
        };
        let parts = parts.into_iter().map(running).collect();
        Ok(LessonStream { parts, plan, tokenizer: Tokenizer::default(), seed })
    }

    /// The samples of lesson `item`.
    ///
    /// # Errors
    /// As [`TraceStream::get`].
    pub fn get(&self, item: u64) -> Result<Vec<Sample>, Error> {
        let mut random = Random::new(self.seed, LESSON_STREAM, item);
        let share = random.unit() * self.parts[self.parts.len() - 1].0;
        let part = self.parts.partition_point(|(sum, _)| *sum <= share).min(self.parts.len() - 1);
        let traces = &self.parts[part].1;
        let TraceItem { trace, condition, .. } = traces.get(item)?;
        let cancelled = random.unit() < self.plan.cancelled;
        let mut samples = Vec::new();
        if traces.main {
            samples = thread_samples(&trace, condition.as_deref(), cancelled, &self.tokenizer);
        }
        let above = |child: &Trace| self.plan.children_above.is_some_and(|number| largest(child) > number);
        let mut rank = |child: &Trace| (!child.solved, !above(child), random.bits());
        let taught = trace.children.iter().flatten().filter(|child| traces.main || above(child));
        let mut children: Vec<_> = taught.map(|child| (rank(child), child)).collect();
        children.sort_by_key(|(rank, _)| *rank);
        for (_, child) in children.iter().take(self.plan.children) {
            samples.extend(thread_samples(child, None, false, &self.tokenizer));
        }
        samples.retain(|s| s.token_ids.len() <= self.plan.max_tokens);
        Ok(samples)
    }
}

/// The largest number of the state that a trace begins with.
fn largest(trace: &Trace) -> Number {
    first_state(trace.text()).and_then(|(_, numbers)| numbers.into_iter().max()).unwrap_or_default()
}

/// The condition before the root prompt of a trace: the children it might spawn or spawned in all, or how long it became.
fn condition(method: &Method, trace: &Trace) -> String {
    let children = match method {
        Method::Waves(Waves { below: Below::Main, .. }) => 0,
        Method::Waves(Waves { below: Below::Children, budget: Some(budget), .. }) => *budget,
        Method::Waves(Waves { below: Below::Children, .. }) | Method::Apr { .. } => {
            trace.children.iter().map(Vec::len).sum()
        }
        _ => {
            // The sentence's begin and end count too.
            let tokens = llama2_tokens(trace.text()) + 2;
            return format!("{TOKEN_BUDGET}{} ", tokens.next_multiple_of(TOKEN_BUDGET_BIN));
        }
    };
    format!("{CHILD_BUDGET}{children} ")
}

/// The samples of one thread: one for each of its texts.
pub fn thread_samples(thread: &Trace, condition: Option<&str>, cancelled: bool, tokenizer: &Tokenizer) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(thread.main_calls.len());
    for (round, text) in thread.main_calls.iter().enumerate() {
        let mut sample = Sample::default();
        sample.push(tokenizer, BOS, false);
        sample.push(tokenizer, condition.unwrap_or(""), false);
        let last = round + 1 == thread.main_calls.len();
        let given = given_len(thread, round);
        let prompt = prompt_len(text);
        sample.push(tokenizer, &text[..prompt], false);
        if cancelled && given > prompt && thread.solved && last {
            let trunk = trunk_len(&thread.main_calls[round - 1]);
            sample.push(tokenizer, &text[prompt..trunk], false);
            sample.push(tokenizer, &cancel_losers(&text[trunk..given], &thread.children[round - 1]), false);
        } else {
            sample.push(tokenizer, &text[prompt..given], false);
        }
        sample.push(tokenizer, &text[given..], true);
        if last {
            sample.push(tokenizer, EOS, true);
        }
        sample.choosing = thread.main_calls.len() > 1 && !(last && thread.solved);
        samples.push(sample);
    }
    samples
}

impl Sample {
    /// The [`kind`] of each token.
    pub fn kinds(&self, tokenizer: &Tokenizer) -> Vec<u8> {
        let id = |token: &str| tokenizer.id(token);
        let digits: Vec<u32> = (b'0'..=b'9').filter_map(|digit| id(&char::from(digit).to_string())).collect();
        let (equals, times, open, begin, join) = (id("="), id("*"), id(STATE), id(TARGET_LIST), id(END_JOIN));
        let explore = id(EXPLORE);
        let ends_line = |id: u32| tokenizer.decode(&[id], false).is_ok_and(|text| text.ends_with('\n'));
        let line_ends: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|&id| ends_line(id)).collect();
        let (ends, verdicts) = ([id(NO_OPERATIONS), id(END_OPERATIONS)], [id(UNEQUAL), id(EQUAL)]);
        let mut kinds = vec![0; self.token_ids.len()];
        // Where the contents of the state line under way began; whether a join is over; the digits of a result so far.
        let (mut line, mut inside, mut joined) = (false, false, false);
        let mut result: Option<usize> = None;
        // Whether a trial is under way, whose quotient is computed as its product is; or a step is being chosen.
        let (mut trial, mut step) = (false, false);
        for (place, &token) in self.token_ids.iter().enumerate() {
            let token = Some(token);
            let digit = token.is_some_and(|token| digits.contains(&token));
            let first = place > 0 && line_ends.contains(&self.token_ids[place - 1]);
            trial = if first { digit } else { trial };
            if !digit {
                result = (token == equals || trial && token == times).then_some(0);
            }
            joined |= token == join;
            step &= token != equals;
            // What opens, begins or ends a state line is no part of its contents.
            let contents = inside && token != open && token != begin && !ends.contains(&token);
            if token == open {
                (line, inside) = (true, false);
            } else if token == begin {
                inside = line;
            } else if ends.contains(&token) {
                (line, inside) = (false, false);
            }
            if !self.loss_mask[place] {
                continue;
            }
            kinds[place] = kind::WRITTEN;
            if digit && let Some(length) = result.as_mut() {
                *length += 1;
                kinds[place] |= kind::RESULT;
                if *length > 3 {
                    for kind in &mut kinds[place + 1 - *length..=place] {
                        *kind |= kind::LARGE_RESULT;
                    }
                }
            }
            if contents {
                kinds[place] |= kind::STATE;
            }
            if verdicts.contains(&token) {
                kinds[place] |= kind::VERDICT;
            }
            if joined {
                kinds[place] |= kind::JOINED;
            }
            if first {
                kinds[place] |= kind::LINE;
            }
            if self.choosing && (first || step) {
                kinds[place] |= kind::CHOICE;
            }
            step |= token == explore;
        }
        kinds
    }

    fn push(&mut self, tokenizer: &Tokenizer, text: &str, written: bool) {
        tokenizer.encode_into(text, &mut self.token_ids);
        self.loss_mask.resize(self.token_ids.len(), written);
    }
}

/// How much of a thread's text in this round the model is given: the prompt, or all up to the end of the join block.
pub(crate) fn given_len(thread: &Trace, round: usize) -> usize {
    let text = &thread.main_calls[round];
    match round.checked_sub(1) {
        None => prompt_len(text),
        Some(before) => join_end(text, trunk_len(&thread.main_calls[before])),
    }
}

/// A prompt runs to the end of the first state line, without its line break.
fn prompt_len(text: &str) -> usize {
    let state = text.find(STATE).unwrap_or(0);
    text[state..].find('\n').map_or(text.len(), |end| state + end)
}

/// Where the spawn block at the end of a finished text begins.
fn trunk_len(text: &str) -> usize {
    text.rfind(SPAWN).unwrap_or(text.len())
}

/// Where the join block that begins at `trunk` ends.
fn join_end(text: &str, trunk: usize) -> usize {
    text[trunk..].find(END_JOIN).map_or(text.len(), |end| trunk + end + END_JOIN.len())
}

/// The join block as the policy `first` leaves it, if the child whose path the parent takes was the first to finish.
fn cancel_losers(block: &str, children: &[Trace]) -> String {
    let Some(winner) = children.iter().position(|c| c.solved) else {
        return block.to_owned();
    };
    let won_at = children[winner].text().len();
    if children.iter().enumerate().any(|(i, c)| i != winner && c.solved && c.text().len() <= won_at) {
        return block.to_owned();
    }
    let mut losing = false;
    let mut joined = String::with_capacity(block.len());
    for line in block.split_inclusive('\n') {
        let result = [CHILD_FAILED, CHILD_SOLVED].iter().find_map(|head| line.strip_prefix(head));
        if let Some(result) = result {
            let index = result.split(' ').next().and_then(|index| index.parse::<usize>().ok());
            losing = index.is_some_and(|i| i != winner && children.get(i).is_some_and(|c| c.text().len() > won_at));
            if losing {
                joined.push_str(CHILD_CANCELLED);
                joined.push_str(result);
            }
        }
        // A cancelled child left no summary.
        if !losing || line == END_JOIN {
            joined.push_str(line);
        }
    }
    joined
}
