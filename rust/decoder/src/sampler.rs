//! Choosing a token from logits.
//!
//! The random number for a token is a hash of the request's seed and the token's position: there is no generator to
//! carry along, so batch mates, preemption and resumption cannot change what a request draws.

use apr_random::{GOLDEN_RATIO, mix};

use crate::kernels::exp_shifted;
use crate::simd::Isa;

/// A chosen token and its natural log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampled {
    /// The token.
    pub token: u32,
    /// At the sampling temperature; greedy at temperature 1.
    pub logprob: f32,
}

/// Chooses among `logits[..vocabulary]`; overwrites them. What follows them is padding up to whole vectors.
///
/// Temperature 0 takes the most likely token, of equals the lowest. None: some logit is not finite, so there is no
/// distribution to choose from.
pub(crate) fn sample(
    isa: Isa,
    logits: &mut [f32],
    vocabulary: usize,
    temperature: f32,
    seed: u64,
    position: u64,
) -> Option<Sampled> {
    if !finite(&logits[..vocabulary]) {
        return None;
    }
    let mut best = 0;
    for (token, logit) in logits[..vocabulary].iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    let most = logits[best];
    if temperature == 0.0 {
        exp_shifted(isa, logits, most, 1.0);
        return Some(Sampled { token: best as u32, logprob: -total(&logits[..vocabulary]).ln() as f32 });
    }
    let scale = 1.0 / temperature;
    let before = logits.to_vec();
    exp_shifted(isa, logits, most, scale);
    let weights = &logits[..vocabulary];
    let total = total(weights);
    let target = uniform(seed, position) * total;
    let mut sum = 0.0;
    let token = weights.iter().position(|weight| {
        sum += f64::from(*weight);
        target < sum
    });
    // Rounding may leave the target at the very end: then the most likely token.
    let token = token.unwrap_or(best);
    Some(Sampled { token: token as u32, logprob: (f64::from(scale * (before[token] - most)) - total.ln()) as f32 })
}

/// In integers, whose maximum is a vector operation: all that is not finite is larger than what is.
fn finite(logits: &[f32]) -> bool {
    let largest = logits.iter().fold(0, |largest, logit| logit.abs().to_bits().max(largest));
    largest < f32::INFINITY.to_bits()
}

fn total(weights: &[f32]) -> f64 {
    weights.iter().copied().map(f64::from).sum()
}

/// A number in [0, 1) out of two counters.
fn uniform(seed: u64, position: u64) -> f64 {
    // Each part is a step of SplitMix64.
    let step = |state: u64| mix(state.wrapping_add(GOLDEN_RATIO));
    let mixed = step(step(seed).wrapping_add(position));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
