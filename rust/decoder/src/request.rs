//! What goes into the decoder and what comes out: plain values.

/// What to sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The caller's name for it; unique among the open requests.
    pub id: u64,
    /// The tokens to continue.
    pub prompt: Vec<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Tokens that may be sampled; None: all that the context leaves.
    pub max_tokens: Option<usize>,
    /// Sampling ends after the first of these.
    pub stop_tokens: Vec<u32>,
    /// The request's own random stream.
    pub seed: u64,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token was sampled.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
    /// The caller aborted it.
    Abort,
    /// The model computed logits that are not finite.
    Error,
}

/// Where a request's time went so far, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// In the queue.
    pub queue: f64,
    /// From the admission to the first token.
    pub prefill: f64,
    /// From the first token on.
    pub decode: f64,
}

/// What a step brought for one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The request.
    pub id: u64,
    /// Freshly sampled tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// The log-probability of each.
    pub logprobs: Vec<f32>,
    /// Set in the request's last update.
    pub finished: Option<FinishReason>,
    /// Prompt tokens that were not computed.
    pub cached_tokens: usize,
    /// The weights that sampled every token.
    pub policy_version: u64,
    /// Where the time went.
    pub timing: Timing,
}

/// Counters since the start, and the state now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps of the model.
    pub steps: u64,
    /// Tokens the model computed.
    pub computed_tokens: u64,
    /// Tokens of admitted prompts.
    pub prompt_tokens: u64,
    /// Those of them that came from the cache.
    pub cached_tokens: u64,
    /// Tokens sampled.
    pub sampled_tokens: u64,
    /// Times a running request went back to the queue for want of memory.
    pub preemptions: u64,
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests in the batch.
    pub running: usize,
    /// Pages that hold something.
    pub used_pages: usize,
    /// All pages.
    pub pages: usize,
}
