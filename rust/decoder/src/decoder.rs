//! The decoder's face: a model, a scheduler, and the step that runs one through the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::brain::ComputeType;
use crate::cache::PAGE;
use crate::config::Config;
use crate::error::Error;
use crate::llama::Llama;
use crate::memory::{self, processor_cache};
use crate::pool::Pool;
use crate::request::{Request, Stats, Update};
use crate::sampler::{Sampled, sample};
use crate::scheduler::Scheduler;
use crate::simd::Isa;
use crate::slab::{CacheType, Slab};
use crate::weights::{Tensor, Weights};

/// Rows of prompts that a step computes at most: enough to keep the arithmetic units busy, few enough that decoding requests beside a
/// long prompt still stream.
const MAX_ROWS: usize = 256;

/// More than any machine has a use for; beyond them a number is a mistake.
const MOST_THREADS: usize = 1024;
const MOST_BATCH: usize = 1 << 16;

/// The cache unless its size is given: a quarter of a million tokens of the shipped model.
const CACHE_BYTES: usize = 1 << 30;
/// Of the free memory, it takes at most one part in so many.
const FREE_PARTS: usize = 4;

/// How a decoder uses the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Limit of the KV cache; None: a gibibyte or a quarter of the free memory, whichever is less, but one full context
    /// if that is free. Memory is taken as it is filled.
    pub cache_bytes: Option<usize>,
    /// What keys and values are kept in. A request's log-probabilities are the model's in float32 with a cache and
    /// products in float32.
    pub cache_type: CacheType,
    /// What a forward pass multiplies in.
    pub compute_type: ComputeType,
    /// Threads that compute, the caller's among them; 0: one for each processor.
    pub threads: usize,
    /// Requests that decode at once; the others wait.
    pub max_batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: None,
            cache_type: CacheType::Bfloat16,
            compute_type: ComputeType::Float32,
            threads: 0,
            max_batch: 128,
        }
    }
}

/// Decodes many requests at once.
///
/// A request's tokens depend on its prompt, its parameters and the weights alone: not on the batch, the cache, the
/// number of threads or the order of arrival.
pub struct Decoder {
    model: Llama,
    scheduler: Scheduler,
}

impl Decoder {
    /// Loads a Hugging Face directory: `config.json` and `model.safetensors`, or its shards and their index.
    pub fn open(directory: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        let config = Config::read(directory.as_ref())?;
        let weights = Weights::read(directory.as_ref(), &config)?;
        let out_of_range = |name, reason: String| Err(Error::Option { name, reason });
        if !(1..=MOST_BATCH).contains(&options.max_batch) {
            return out_of_range("max_batch", format!("must be from 1 to {MOST_BATCH}"));
        }
        if options.threads > MOST_THREADS {
            return out_of_range("threads", format!("must be at most {MOST_THREADS}"));
        }
        let page_bytes = Slab::page_bytes(&config, options.cache_type);
        // One page more, for a shared page that is being copied.
        let least = config.context_length.div_ceil(PAGE) + 1;
        let cache_bytes = options.cache_bytes.unwrap_or_else(|| {
            let free = memory::free().unwrap_or(CACHE_BYTES * FREE_PARTS);
            CACHE_BYTES.min(free / FREE_PARTS).max(least.saturating_mul(page_bytes).min(free))
        });
        let pages = (cache_bytes / page_bytes).min(u32::MAX as usize - 1);
        if pages < least {
            let needed = least * page_bytes;
            return out_of_range("cache_bytes", format!("must hold one full context, {needed} bytes"));
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let system = |source| Error::Io { path: directory.as_ref().to_owned(), source };
        let slab = Slab::new(&config, options.cache_type, pages).map_err(system)?;
        let pool = Pool::new(threads).map_err(system)?;
        let isa = Isa::detect();
        let compute = if isa.multiplies_pairs() { options.compute_type } else { ComputeType::Float32 };
        let near_pages = processor_cache().saturating_sub(weights.bytes()) / page_bytes;
        let weight_pages = weights.bytes().div_ceil(page_bytes);
        Ok(Self {
            model: Llama::new(config, weights, slab, pool, (isa, compute)),
            scheduler: Scheduler::new(pages, options.max_batch, MAX_ROWS, (near_pages, weight_pages)),
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.model.config
    }

    /// Counts the weight updates.
    pub fn policy_version(&self) -> u64 {
        self.scheduler.policy_version()
    }

    /// Counters and the state now.
    pub fn stats(&self) -> Stats {
        self.scheduler.stats()
    }

    /// Whether a step has something to do or to tell.
    pub fn has_work(&self) -> bool {
        self.scheduler.open() > 0
    }

    /// Queues a request.
    pub fn submit(&mut self, request: Request) -> Result<(), Error> {
        let config = &self.model.config;
        let id = request.id;
        let refuse = |reason: String| Err(Error::Request { id, reason });
        if request.prompt.is_empty() {
            return refuse("the prompt is empty".into());
        }
        if request.prompt.len() > config.context_length {
            return refuse(format!(
                "the prompt has {} tokens, the context {}",
                request.prompt.len(),
                config.context_length
            ));
        }
        let mut tokens = request.prompt.iter();
        if let Some(token) = tokens.find(|&&token| token as usize >= config.vocab_size) {
            return refuse(format!("token {token} is outside the vocabulary of {}", config.vocab_size));
        }
        // Below this the reciprocal overflows the logits' differences.
        let temperature = request.temperature;
        if temperature != 0.0 && !(temperature.is_finite() && temperature >= 1e-4) {
            return refuse(format!("temperature {temperature} is neither 0 nor at least 0.0001"));
        }
        if self.scheduler.holds(id) {
            return refuse("a request of this id is still open".into());
        }
        let context_length = config.context_length;
        self.scheduler.submit(request, context_length);
        Ok(())
    }

    /// Ends a request with the next step's updates; false if no such request is open.
    pub fn abort(&mut self, id: u64) -> bool {
        self.scheduler.abort(id)
    }

    /// Computes one batch. Returns the updates of every request that got a token or ended.
    pub fn step(&mut self) -> Vec<Update> {
        let batch = self.scheduler.plan();
        let mut sampled: Vec<Option<Sampled>> = Vec::new();
        if !batch.rows.is_empty() {
            let (isa, vocabulary) = (self.model.isa(), self.model.config.vocab_size);
            let (logits, stride) = self.model.forward(&batch);
            for (index, logits) in logits.chunks_exact_mut(stride).enumerate() {
                let (seed, position, temperature) = self.scheduler.draw(index);
                sampled.push(sample(isa, logits, vocabulary, temperature, seed, position));
            }
        }
        self.scheduler.commit(&sampled)
    }

    /// Steps until `time` is over, a request ends, or nothing is left to do; one update a request.
    ///
    /// Crossing into another language costs about as much as a step of a small model.
    pub fn run(&mut self, time: Duration) -> Vec<Update> {
        let start = Instant::now();
        let mut merged: Vec<Update> = Vec::new();
        let mut places: HashMap<u64, usize> = HashMap::new();
        while self.has_work() {
            let mut ended = false;
            for update in self.step() {
                ended |= update.finished.is_some();
                match places.entry(update.id) {
                    Entry::Vacant(place) => {
                        place.insert(merged.len());
                        merged.push(update);
                    }
                    Entry::Occupied(place) => {
                        let known = &mut merged[*place.get()];
                        known.tokens.extend(update.tokens);
                        known.logprobs.extend(update.logprobs);
                        known.finished = update.finished;
                        known.cached_tokens = update.cached_tokens;
                        known.timing = update.timing;
                    }
                }
            }
            if ended || start.elapsed() >= time {
                break;
            }
        }
        merged
    }

    /// Replaces all weights, empties the cache and counts the policy version up. Needs a decoder without open
    /// requests; an error leaves the old weights.
    pub fn update_weights(&mut self, tensors: &HashMap<String, Tensor<'_>>) -> Result<(), Error> {
        let requests = self.scheduler.open();
        if requests > 0 {
            return Err(Error::Busy { requests });
        }
        self.model.weights = Weights::build(&self.model.config, tensors)?;
        self.scheduler.flush();
        Ok(())
    }
}
