//! Which tokens of which requests the next step computes: continuous batching over one cache.
//!
//! `plan` fills a batch, the model computes it, `commit` takes the sampled tokens. A running sequence holds pages for
//! all tokens of the plan; the pages a plan fills are in the tree before the step runs, since the model computes them
//! before any later row of the same batch looks at them. That is what lets a request share the prompt of another that
//! arrives with it. When pages run out, the youngest sequence goes back to the queue; what it computed stays in the
//! tree until it is evicted.
//!
//! A step reads all weights and all pages of the sequences that decode. Where the weights fit into the processor's
//! cache, but not with all of these pages, the sequences decode in turns: as many at a time as fit beside the weights,
//! for as many steps as make reading their pages into the cache a small part of the turn.

use std::collections::VecDeque;

use crate::cache::{Cache, PAGE, PageId, common};
use crate::llama::{Batch, PageCopy, Row};
use crate::request::{FinishReason, Request, Stats, Update};
use crate::sampler::Sampled;
use crate::sequence::Sequence;

/// Steps of a turn: reading its pages into the cache costs about one more. Some milliseconds of a small model.
const TURN: u64 = 32;

/// Requests, their order, and the cache.
#[derive(Debug)]
pub(crate) struct Scheduler {
    cache: Cache,
    waiting: VecDeque<Sequence>,
    /// In the order of their admission.
    running: Vec<Sequence>,
    /// Which running sequence each sampled row of the plan belongs to.
    sampling: Vec<usize>,
    /// Pages that the plan's copies read.
    copied: Vec<PageId>,
    ended: Vec<Update>,
    max_batch: usize,
    max_rows: usize,
    /// Pages that the processor's cache holds beside the weights; 0: it does not even hold those.
    near_pages: usize,
    /// Pages that are as large as all weights.
    weight_pages: usize,
    policy_version: u64,
    stats: Stats,
}

impl Scheduler {
    /// `pages` must hold one sequence of the full context and one page more; `max_rows` bounds the rows of a step
    /// beside those that decode; `near_pages` fit into the processor's cache beside the weights, which are as large as
    /// `weight_pages`.
    pub(crate) fn new(
        pages: usize,
        max_batch: usize,
        max_rows: usize,
        (near_pages, weight_pages): (usize, usize),
    ) -> Self {
        Self {
            cache: Cache::new(pages),
            waiting: VecDeque::new(),
            running: Vec::new(),
            sampling: Vec::new(),
            copied: Vec::new(),
            ended: Vec::new(),
            max_batch,
            max_rows: max_rows + max_batch,
            near_pages,
            weight_pages,
            policy_version: 0,
            stats: Stats::default(),
        }
    }

    /// Queues a request whose prompt fits the context.
    pub(crate) fn submit(&mut self, request: Request, context_length: usize) {
        let mut sequence = Sequence::new(request, context_length);
        if sequence.tokens.len() == sequence.limit {
            self.end(&mut sequence, FinishReason::Length);
        } else {
            self.waiting.push_back(sequence);
        }
    }

    /// Ends an open request; false if there is none of this name.
    pub(crate) fn abort(&mut self, id: u64) -> bool {
        let named = |sequence: &Sequence| sequence.request.id == id;
        let mut found = if let Some(at) = self.waiting.iter().position(named) {
            self.waiting.remove(at)
        } else if let Some(at) = self.running.iter().position(named) {
            let mut sequence = self.running.remove(at);
            self.leave(&mut sequence);
            Some(sequence)
        } else {
            None
        };
        if let Some(sequence) = &mut found {
            self.end(sequence, FinishReason::Abort);
        }
        found.is_some()
    }

    pub(crate) fn holds(&self, id: u64) -> bool {
        let mut open = self.waiting.iter().chain(&self.running);
        open.any(|sequence| sequence.request.id == id)
    }

    /// Requests that have not ended, and those whose end was not told yet.
    pub(crate) fn open(&self) -> usize {
        self.waiting.len() + self.running.len() + self.ended.len()
    }

    pub(crate) fn policy_version(&self) -> u64 {
        self.policy_version
    }

    /// Forgets all that was computed with the old weights; nothing may be open.
    pub(crate) fn flush(&mut self) {
        self.cache.clear();
        self.policy_version += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            waiting: self.waiting.len(),
            running: self.running.len(),
            used_pages: self.cache.used(),
            pages: self.cache.capacity(),
            ..self.stats
        }
    }

    /// The next step's batch; empty if nothing runs.
    pub(crate) fn plan(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.sampling.clear();
        let mut index = 0;
        while index < self.running.len() {
            // Pages for one more token; a prompt got all of its own at admission.
            while self.running[index].pages.len() * PAGE < self.running[index].tokens.len() {
                match self.cache.allocate() {
                    Some(page) => self.running[index].pages.push(page),
                    None => {
                        self.preempt();
                        if index >= self.running.len() {
                            break;
                        }
                    }
                }
            }
            index += 1;
        }
        // Sequences that decode come first: a long prompt must not hold them up.
        let (decoding, prompts): (Vec<_>, Vec<_>) =
            (0..self.running.len()).partition(|index| self.running[*index].left() == 1);
        for index in self.turn(decoding).into_iter().chain(prompts) {
            self.schedule(index, &mut batch);
        }
        if !self.waiting.is_empty() && self.running.len() < self.max_batch {
            for sequence in &mut self.running {
                sequence.publish(&mut self.cache, false);
            }
            self.admit(&mut batch);
        }
        batch.near = batch.tables.len() <= self.near_pages;
        if !batch.rows.is_empty() {
            self.stats.steps += 1;
            self.stats.computed_tokens += batch.rows.len() as u64;
        }
        batch
    }

    /// The seed, position and temperature that sampled row `index` of the plan wants.
    pub(crate) fn draw(&self, index: usize) -> (u64, u64, f32) {
        let sequence = &self.running[self.sampling[index]];
        let position = sequence.tokens.len() as u64;
        (sequence.request.seed, position, sequence.request.temperature)
    }

    /// Takes the tokens of the plan's sampled rows, in order; returns what happened since the last call. A request whose
    /// row brought none ends.
    pub(crate) fn commit(&mut self, sampled: &[Option<Sampled>]) -> Vec<Update> {
        for page in self.copied.drain(..) {
            self.cache.release(page);
        }
        let mut updates = std::mem::take(&mut self.ended);
        let sampling = std::mem::take(&mut self.sampling);
        for sequence in &mut self.running {
            if sequence.computed / PAGE > sequence.published {
                sequence.publish(&mut self.cache, true);
            }
        }
        let mut finished = vec![false; self.running.len()];
        for (index, sampled) in sampling.iter().zip(sampled) {
            let sequence = &mut self.running[*index];
            sequence.tokens.extend(sampled.map(|sampled| sampled.token));
            let reason = match sampled {
                None => Some(FinishReason::Error),
                Some(Sampled { token, .. }) if sequence.request.stop_tokens.contains(token) => Some(FinishReason::Stop),
                Some(_) if sequence.tokens.len() >= sequence.limit => Some(FinishReason::Length),
                Some(_) => None,
            };
            finished[*index] = reason.is_some();
            self.stats.sampled_tokens += u64::from(sampled.is_some());
            updates.push(Update {
                id: sequence.request.id,
                tokens: sampled.iter().map(|sampled| sampled.token).collect(),
                logprobs: sampled.iter().map(|sampled| sampled.logprob).collect(),
                finished: reason,
                cached_tokens: sequence.cached.unwrap_or(0),
                policy_version: self.policy_version,
                timing: sequence.timing(true),
            });
        }
        if finished.contains(&true) {
            let running = std::mem::take(&mut self.running);
            for (mut sequence, finished) in running.into_iter().zip(finished) {
                if finished {
                    self.leave(&mut sequence);
                } else {
                    self.running.push(sequence);
                }
            }
        }
        self.sampling = sampling;
        updates
    }

    /// Those of the sequences that decode whose turn it is: those that were at it, then those that waited longest.
    fn turn(&mut self, mut decoding: Vec<usize>) -> Vec<usize> {
        // Pages that sequences share count for each of them: for want of a turn they are at most read from memory.
        let pages: usize = decoding.iter().map(|index| self.running[*index].pages.len()).sum();
        if pages <= self.near_pages || self.near_pages == 0 {
            return decoding;
        }
        // Every turn reads the weights, from the cache; without turns all is read once, from memory, which is taken to be
        // half as fast.
        let turns = pages.div_ceil(self.near_pages);
        if turns * self.weight_pages + pages > 2 * (self.weight_pages + pages) {
            return decoding;
        }
        let now = self.stats.steps / TURN + 1;
        decoding.sort_by_key(|index| {
            let sequence = &self.running[*index];
            // As pages grow a turn loses some of its sequences: not always the same.
            let written = sequence.tokens.len() - sequence.request.prompt.len();
            (sequence.turn != now, sequence.turn, written)
        });
        let mut taken = 0;
        let fit = decoding.iter().take_while(|index| {
            taken += self.running[**index].pages.len();
            taken <= self.near_pages
        });
        let count = fit.count().max(1);
        decoding.truncate(count);
        decoding.iter().for_each(|index| self.running[*index].turn = now);
        decoding
    }

    /// Adds rows for what a running sequence has not computed, as many as the batch takes.
    fn schedule(&mut self, index: usize, batch: &mut Batch) {
        let sequence = &mut self.running[index];
        let room = self.max_rows.saturating_sub(batch.rows.len());
        let until = sequence.tokens.len().min(sequence.computed + room);
        if until == sequence.computed {
            return;
        }
        let table = batch.tables.len() as u32;
        batch.tables.extend(&sequence.pages[..until.div_ceil(PAGE)]);
        for position in sequence.computed..until {
            let sampled = position + 1 == sequence.tokens.len();
            batch.rows.push(Row { token: sequence.tokens[position], position: position as u32, table, sampled });
            if sampled {
                self.sampling.push(index);
            }
        }
        sequence.computed = until;
    }

    /// Moves requests from the queue into the batch while both have room and the cache has pages.
    fn admit(&mut self, batch: &mut Batch) {
        let mut at = 0;
        while at < self.waiting.len() && self.running.len() < self.max_batch && batch.rows.len() < self.max_rows {
            let tokens = &self.waiting[at].tokens;
            // The last token is always computed: its logits are what the request is for.
            let wanted = &tokens[..tokens.len() - 1];
            let found = self.cache.match_prefix(wanted);
            let ahead =
                self.running.iter().any(|other| other.left() > 1 && common(&other.tokens, wanted) > found.len());
            if ahead {
                // Another request is about to compute more of this prompt; waiting for it is cheaper.
                at += 1;
                continue;
            }
            let new_pages = tokens.len().div_ceil(PAGE) - found.pages.len();
            let mut locked: Vec<PageId> = found.pages.clone();
            locked.extend(found.partial.map(|(page, _)| page));
            locked.iter().for_each(|page| self.cache.lock(*page));
            if self.cache.available() < new_pages {
                locked.iter().for_each(|page| self.cache.release(*page));
                return;
            }
            let Some(mut sequence) = self.waiting.remove(at) else {
                return;
            };
            sequence.computed = found.len();
            sequence.published = found.pages.len();
            sequence.node = found.node;
            sequence.pages = found.pages;
            sequence.pages.extend((0..new_pages).map_while(|_| self.cache.allocate()));
            if let Some((from, count)) = found.partial {
                let to = sequence.pages[sequence.published];
                batch.copies.push(PageCopy { from, to, count });
                self.copied.push(from);
            }
            if sequence.cached.is_none() {
                sequence.admit(sequence.computed);
                // Behind those that wait already.
                sequence.turn = self.stats.steps / TURN;
                self.stats.prompt_tokens += sequence.tokens.len() as u64;
                self.stats.cached_tokens += sequence.computed as u64;
            }
            self.running.push(sequence);
            let index = self.running.len() - 1;
            self.schedule(index, batch);
            self.running[index].publish(&mut self.cache, false);
        }
    }

    /// Sends the youngest sequence back to the head of the queue.
    fn preempt(&mut self) {
        if let Some(mut sequence) = self.running.pop() {
            self.leave(&mut sequence);
            self.stats.preemptions += 1;
            self.waiting.push_front(sequence);
        }
    }

    /// Leaves what a sequence computed to the tree and gives its pages up.
    fn leave(&mut self, sequence: &mut Sequence) {
        sequence.publish(&mut self.cache, true);
        sequence.release(&mut self.cache);
    }

    fn end(&mut self, sequence: &mut Sequence, reason: FinishReason) {
        self.ended.push(Update {
            id: sequence.request.id,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            finished: Some(reason),
            cached_tokens: sequence.cached.unwrap_or(0),
            policy_version: self.policy_version,
            timing: sequence.timing(false),
        });
    }
}

#[cfg(test)]
mod tests;
