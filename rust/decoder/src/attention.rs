//! Attention of one query over the pages of its sequence.
//!
//! Two passes: all scores and their softmax, then the weighted values. Each sum runs in the order of the positions,
//! in four interleaved parts, so the result depends on the sequence alone.

use crate::cache::PAGE;
use crate::simd::{Lanes, dispatch, exp, reduce};
use crate::slab::HeadPages;

/// Pages ahead whose first lines are asked for: where a sequence jumps in memory, the processor's own prefetching
/// starts only after the first misses.
const AHEAD: usize = 2;

dispatch! {
    /// `out = softmax(query · keys / sqrt(dimension)) values` over the first `len` tokens of the pages in `table`.
    ///
    /// `query` holds as many floats as the head is wide, `out` that many rounded up to whole vectors, `scores` a whole
    /// page for each begun page of `len` tokens (at least one), all of which are in the table and written.
    attend = attend_body(
        query: *const f32,
        head: HeadPages,
        table: &[u32],
        len: usize,
        scores: *mut f32,
        out: *mut f32,
    )
}

/// # Safety
/// As `attend` says.
#[inline(always)]
unsafe fn attend_body<L: Lanes>(
    query: *const f32,
    head: HeadPages,
    table: &[u32],
    len: usize,
    scores: *mut f32,
    out: *mut f32,
) {
    // SAFETY: blocks of pages in the table lie inside the slab; scores and out are as long as promised.
    unsafe {
        let dimension = head.dimension();
        let count = len.div_ceil(PAGE);
        let padded = dimension.next_multiple_of(16);
        let scale = L::splat(1.0 / (dimension as f32).sqrt());
        let mut most = L::splat(f32::NEG_INFINITY);
        for (index, page) in table[..count].iter().enumerate() {
            let keys = head.keys(*page);
            if let Some(next) = table.get(index + AHEAD) {
                begin::<L>(head.keys(*next));
            }
            let mut sums = [L::splat(0.0); 4];
            for quarter in 0..dimension / 4 {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let at = quarter * 4 + part;
                    *sum = L::splat(*query.add(at)).fma(L::load(keys.add(at * PAGE)), *sum);
                }
            }
            for at in dimension / 4 * 4..dimension {
                sums[0] = L::splat(*query.add(at)).fma(L::load(keys.add(at * PAGE)), sums[0]);
            }
            let score = sums[0].add(sums[1]).add(sums[2].add(sums[3])).mul(scale);
            let to = scores.add(index * PAGE);
            score.store(to);
            if index + 1 == count {
                for lane in len - index * PAGE..PAGE {
                    *to.add(lane) = f32::NEG_INFINITY;
                }
            }
            most = most.max(L::load(to));
        }
        let most = L::splat(-reduce(most, f32::max));
        let mut total = L::splat(0.0);
        for index in 0..count {
            let at = scores.add(index * PAGE);
            exp(L::load(at).add(most)).store(at);
            if index + 1 == count {
                for lane in len - index * PAGE..PAGE {
                    *at.add(lane) = 0.0;
                }
            }
            total = total.add(L::load(at));
        }
        let share = L::splat(1.0 / reduce(total, |a, b| a + b));
        let weighing = Weighing { head, padded, table, len, weights: scores, share };
        let mut column = 0;
        while column < padded {
            // Two vectors of values at once where the registers hold their eight sums.
            if L::ACCUMULATORS >= 8 && padded - column >= 32 {
                weighing.run::<2>(column, out);
                column += 32;
            } else {
                weighing.run::<1>(column, out);
                column += 16;
            }
        }
    }
}

/// Asks for the first lines of a block.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
unsafe fn begin<L: Lanes>(block: *const f32) {
    for line in 0..8 {
        // SAFETY: a hint, which may point anywhere.
        unsafe { L::prefetch(block.wrapping_add(line * 16).cast()) };
    }
}

/// The second pass: values of the first `len` tokens, weighted and summed.
struct Weighing<'a, L> {
    head: HeadPages,
    /// Floats of a token in a block.
    padded: usize,
    table: &'a [u32],
    len: usize,
    weights: *const f32,
    /// Scales the sum.
    share: L,
}

impl<L: Lanes> Weighing<'_, L> {
    /// Writes `B` vectors from `column` on.
    ///
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn run<const B: usize>(&self, column: usize, out: *mut f32) {
        // SAFETY: passed on to the caller.
        unsafe {
            let padded = self.padded;
            let block = |page: u32| self.head.values(page).wrapping_add(column);
            let mut sums = [[L::splat(0.0); B]; 4];
            let whole = self.len / PAGE;
            for (index, page) in self.table[..whole].iter().enumerate() {
                if let Some(next) = self.table.get(index + AHEAD) {
                    begin::<L>(block(*next));
                }
                let values = block(*page);
                for quarter in 0..PAGE / 4 {
                    for (part, sums) in sums.iter_mut().enumerate() {
                        let token = quarter * 4 + part;
                        let weight = L::splat(*self.weights.add(index * PAGE + token));
                        for (vector, sum) in sums.iter_mut().enumerate() {
                            let value = L::load(values.add(token * padded + vector * 16));
                            *sum = weight.fma(value, *sum);
                        }
                    }
                }
            }
            for token in 0..self.len % PAGE {
                let values = block(self.table[whole]).add(token * padded);
                let weight = L::splat(*self.weights.add(whole * PAGE + token));
                // Constant indices keep the sums in registers.
                for (part, sums) in sums.iter_mut().enumerate() {
                    if part == token % 4 {
                        for (vector, sum) in sums.iter_mut().enumerate() {
                            *sum = weight.fma(L::load(values.add(vector * 16)), *sum);
                        }
                    }
                }
            }
            let [first, second, third, fourth] = sums;
            for vector in 0..B {
                let sum = first[vector].add(second[vector]);
                let sum = sum.add(third[vector].add(fourth[vector]));
                sum.mul(self.share).store(out.add(column + vector * 16));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::simd::Isa;
    use crate::slab::Slab;

    #[test]
    fn attention_agrees_with_plain_arithmetic_on_every_set() {
        for dimension in [6, 16, 24, 32, 64, 80] {
            let config = Config {
                vocab_size: 1,
                hidden_size: dimension,
                intermediate_size: 1,
                layers: 2,
                heads: 3,
                kv_heads: 3,
                head_dim: dimension,
                context_length: 64,
                rope_theta: 1.0,
                rms_norm_eps: 0.0,
                tied_embeddings: true,
            };
            let slab = Slab::new(&config, 40).unwrap();
            let table = [33, 2, 39, 0];
            let number = |at: usize, salt: usize| ((at * 7919 + salt * 104_729) % 257) as f32 / 64.0 - 2.0;
            let row = |token: usize, salt: usize| -> Vec<f32> {
                (0..3 * dimension).map(|at| number(token * 1000 + at, salt)).collect()
            };
            for token in 0..64 {
                // SAFETY: one thread.
                unsafe { slab.put(1, table[token / PAGE], token % PAGE, &row(token, 1), &row(token, 2)) };
            }
            let query: Vec<f32> = (0..dimension).map(|at| number(at, 3)).collect();
            for isa in Isa::available() {
                for len in [1, 2, 15, 16, 17, 40, 64] {
                    let mut scores = vec![0.0; 64];
                    let mut out = vec![0.0; dimension.next_multiple_of(16)];
                    // SAFETY: all 64 tokens are written, the buffers long enough.
                    unsafe {
                        let head = slab.head(1, 2);
                        attend(isa, query.as_ptr(), head, &table, len, scores.as_mut_ptr(), out.as_mut_ptr());
                    }
                    let expected = plain(&query, len, |token, salt| row(token, salt)[2 * dimension..].to_vec());
                    for (out, expected) in out.iter().zip(&expected) {
                        assert!((f64::from(*out) - expected).abs() < 1e-5, "{isa:?} {dimension} {len}");
                    }
                }
            }
        }
    }

    /// The same in float64, the obvious way; `row(token, 1)` are keys, `row(token, 2)` values.
    fn plain(query: &[f32], len: usize, row: impl Fn(usize, usize) -> Vec<f32>) -> Vec<f64> {
        let dot = |keys: Vec<f32>| -> f64 { keys.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        let scale = (query.len() as f64).sqrt();
        let weights: Vec<f64> = (0..len).map(|token| (dot(row(token, 1)) / scale).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; query.len()];
        for (token, weight) in weights.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(row(token, 2)) {
                *out += weight / total * f64::from(value);
            }
        }
        out
    }
}
