//! Rotary positions: how fast each pair of a head's floats turns, and the turning.

use std::f32::consts::TAU;

/// Rotary positions of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// What stretches them to contexts longer than those first trained on.
    pub scaling: Option<Llama3>,
}

/// The scaling of Llama 3.1: slow turns are slowed down by `factor`, fast ones kept, those between blended.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3 {
    /// How many times slower.
    pub factor: f32,
    /// Whole turns within the original context below which a turn is slow.
    pub low_turns: f32,
    /// From how many turns on it is fast.
    pub high_turns: f32,
    /// The context first trained on, in tokens.
    pub original_context: usize,
}

impl Rope {
    /// Radians a position, one for each pair of the head.
    pub(crate) fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = (0..head_dim / 2).map(|index| 1.0 / self.theta.powf((2 * index) as f32 / head_dim as f32));
        match &self.scaling {
            None => plain.collect(),
            Some(scaling) => plain.map(|frequency| scaling.scale(frequency)).collect(),
        }
    }
}

impl Llama3 {
    fn scale(&self, frequency: f32) -> f32 {
        let turns = self.original_context as f32 / (TAU / frequency);
        let fast = ((turns - self.low_turns) / (self.high_turns - self.low_turns)).clamp(0.0, 1.0);
        (1.0 - fast) * frequency / self.factor + fast * frequency
    }
}

/// Cosines, then sines, of every frequency at a position.
pub(crate) fn rotation(frequencies: &[f32], position: u32, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(frequencies.len());
    for (index, frequency) in frequencies.iter().enumerate() {
        (sines[index], cosines[index]) = (position as f32 * frequency).sin_cos();
    }
}

/// Rotates each head's first half against its second.
pub(crate) fn rotate(rotation: &[f32], heads: &mut [f32]) {
    let half = rotation.len() / 2;
    let (cosines, sines) = rotation.split_at(half);
    for head in heads.chunks_exact_mut(rotation.len()) {
        let (first, second) = head.split_at_mut(half);
        for index in 0..half {
            let (a, b) = (first[index], second[index]);
            first[index] = a * cosines[index] - b * sines[index];
            second[index] = b * cosines[index] + a * sines[index];
        }
    }
}
