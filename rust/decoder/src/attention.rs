//! Attention of one query over the pages of its sequence.
//!
//! Two passes: all scores and their softmax, then the weighted values. Each sum runs in the order of the positions,
//! in four interleaved parts, so the result depends on the sequence alone.

use crate::cache::PAGE;
use crate::simd::{Lanes, dispatch, exp, reduce};

/// Where the keys and values of one layer and head lie; see `Slab`.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a> {
    /// The block of page 0.
    pub(crate) base: *const f32,
    /// Floats between two pages.
    pub(crate) stride: usize,
    /// Floats from a block's keys to its values.
    pub(crate) values: usize,
    /// The sequence's pages, in order.
    pub(crate) table: &'a [u32],
    /// Tokens to attend to.
    pub(crate) len: usize,
}

dispatch! {
    /// `out = softmax(query · keys / sqrt(dimension)) values`.
    ///
    /// `query` holds `dimension` floats, `out` that many rounded up to whole vectors, `scores` a whole page for each
    /// begun page of `pages.len` tokens (at least one), all of which are in the table and written.
    attend = attend_body(query: *const f32, dimension: usize, pages: Pages<'_>, scores: *mut f32, out: *mut f32)
}

/// # Safety
/// As `attend` says.
#[inline(always)]
unsafe fn attend_body<L: Lanes>(
    query: *const f32,
    dimension: usize,
    pages: Pages<'_>,
    scores: *mut f32,
    out: *mut f32,
) {
    // SAFETY: blocks of pages in the table lie inside the slab; scores and out are as long as promised.
    unsafe {
        let Pages {
            base,
            stride,
            values,
            table,
            len,
        } = pages;
        let count = len.div_ceil(PAGE);
        let padded = dimension.next_multiple_of(16);
        let scale = L::splat(1.0 / (dimension as f32).sqrt());
        let mut most = L::splat(f32::NEG_INFINITY);
        for (index, page) in table[..count].iter().enumerate() {
            let keys = base.add(*page as usize * stride);
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
        let mut column = 0;
        while column < padded {
            // Two vectors of values at once where the registers hold their eight sums.
            if L::ACCUMULATORS >= 8 && padded - column >= 32 {
                weigh::<L, 2>(
                    base,
                    stride,
                    values + column,
                    padded,
                    table,
                    len,
                    scores,
                    share,
                    out.add(column),
                );
                column += 32;
            } else {
                weigh::<L, 1>(
                    base,
                    stride,
                    values + column,
                    padded,
                    table,
                    len,
                    scores,
                    share,
                    out.add(column),
                );
                column += 16;
            }
        }
    }
}

/// Weighted sum of `B` vectors of the values.
///
/// # Safety
/// As `attend`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weigh<L: Lanes, const B: usize>(
    base: *const f32,
    stride: usize,
    offset: usize,
    padded: usize,
    table: &[u32],
    len: usize,
    weights: *const f32,
    share: L,
    out: *mut f32,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut sums = [[L::splat(0.0); B]; 4];
        let whole = len / PAGE;
        for (index, page) in table[..whole].iter().enumerate() {
            let values = base.add(*page as usize * stride + offset);
            for quarter in 0..PAGE / 4 {
                for (part, sums) in sums.iter_mut().enumerate() {
                    let token = quarter * 4 + part;
                    let weight = L::splat(*weights.add(index * PAGE + token));
                    for (block, sum) in sums.iter_mut().enumerate() {
                        let value = L::load(values.add(token * padded + block * 16));
                        *sum = weight.fma(value, *sum);
                    }
                }
            }
        }
        for token in 0..len % PAGE {
            let values = base.add(table[whole] as usize * stride + offset);
            let weight = L::splat(*weights.add(whole * PAGE + token));
            // A constant index keeps the sums in registers.
            for (part, sums) in sums.iter_mut().enumerate() {
                if part == token % 4 {
                    for (block, sum) in sums.iter_mut().enumerate() {
                        let value = L::load(values.add(token * padded + block * 16));
                        *sum = weight.fma(value, *sum);
                    }
                }
            }
        }
        for block in 0..B {
            let sum = sums[0][block].add(sums[1][block]);
            let sum = sum.add(sums[2][block].add(sums[3][block]));
            sum.mul(share).store(out.add(block * 16));
        }
    }
}
