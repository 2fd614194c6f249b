//! Attention of one token's queries over the pages of its sequence.
//!
//! Two walks: all scores and their softmax, then the weighted values. Query heads that share keys and values go in
//! twos, so that what a walk reads serves both. Each sum runs in the order of the positions (scores: of the
//! dimensions, in two sums of every other one, or of every other pair), so the result depends on the sequence alone.

mod rows;
mod softmax;

use rows::{BFLOAT16, BYTE_PAIRS, FLOAT32, INT8, PAIRS, bytes, dot, int16, pair, paired, prefetch_pair, words};

use crate::brain::{ComputeType, round_body};
use crate::cache::PAGE;
use crate::simd::{Isa, Lanes, dispatch};
use crate::slab::{CacheType, HeadPages};

/// Pages ahead that are asked for while one is worked on, if they come from the processor's last cache. Where they come
/// from memory, the processor sees the one stream that it reads coming, and asking gets in its way: on a Zen 5 the same
/// walks took 50 and 70 us with and without in the first case, 180 and 105 in the second.
const AHEAD: usize = 4;

/// `out = softmax(query · keys / sqrt(dimension)) values` over the first `len` tokens of the pages in `table`, for each
/// of the `heads` queries.
///
/// # Safety
/// `queries` holds as many floats a head as it is wide, `out` that many rounded up to whole vectors, `scores` for each
/// of two heads a whole page for each begun page of `len` tokens (at least one), all of which are in the table and
/// written. `near`: they lie in the processor's cache.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn attend(
    (isa, compute): (Isa, ComputeType),
    queries: *const f32,
    heads: usize,
    pages: HeadPages,
    table: &[u32],
    len: usize,
    near: bool,
    scores: *mut f32,
    out: *mut f32,
) {
    let padded = pages.dimension().next_multiple_of(16);
    let walk = Walk { pages, padded, table: &table[..len.div_ceil(PAGE)], len, near, scores };
    // SAFETY: passed on to the caller.
    unsafe {
        if compute == ComputeType::Float32 || pages.kind() == CacheType::Float32 {
            attend_widened(isa, walk, queries, heads, out);
        } else {
            attend_in_pairs(isa, walk, queries, heads, out);
        }
    }
}

dispatch! {
    attend_widened = attend_widened_body(walk: Walk<'_>, queries: *const f32, heads: usize, out: *mut f32)
}

dispatch! {
    pairs attend_in_pairs = attend_in_pairs_body(walk: Walk<'_>, queries: *const f32, heads: usize, out: *mut f32)
}

/// # Safety
/// As `attend`.
#[inline(always)]
unsafe fn attend_widened_body<L: Lanes>(walk: Walk<'_>, queries: *const f32, heads: usize, out: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        match walk.pages.kind() {
            CacheType::Int8 => walk.attend::<L, INT8>(queries, heads, out),
            CacheType::Bfloat16 => walk.attend::<L, BFLOAT16>(queries, heads, out),
            CacheType::Float32 => walk.attend::<L, FLOAT32>(queries, heads, out),
        }
    }
}

/// # Safety
/// As `attend`.
#[inline(always)]
unsafe fn attend_in_pairs_body<L: Lanes>(walk: Walk<'_>, queries: *const f32, heads: usize, out: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        if walk.pages.kind() == CacheType::Int8 {
            walk.attend::<L, BYTE_PAIRS>(queries, heads, out);
        } else {
            walk.attend::<L, PAIRS>(queries, heads, out);
        }
    }
}

/// What one token attends to.
struct Walk<'a> {
    pages: HeadPages,
    /// Floats of a head in `out`, and words of a row of values.
    padded: usize,
    /// Pages that hold a token of the first `len`.
    table: &'a [u32],
    len: usize,
    near: bool,
    scores: *mut f32,
}

/// The queries of some heads, one every `stride` words, and what their products are multiples of.
struct Queries<const H: usize> {
    start: *const f32,
    stride: usize,
    scales: [f32; H],
}

impl Walk<'_> {
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn attend<L: Lanes, const KIND: u8>(&self, queries: *const f32, heads: usize, out: *mut f32) {
        let mut head = 0;
        while head < heads {
            // SAFETY: these heads' own queries and outputs; the rest is passed on to the caller.
            head += unsafe {
                let query = queries.add(head * self.pages.dimension());
                self.heads::<L, KIND>(heads - head, query, out.add(head * self.padded))
            };
        }
    }

    /// The first heads of `left`: as many as the registers hold the sums of. Returns how many.
    ///
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn heads<L: Lanes, const KIND: u8>(&self, left: usize, query: *const f32, out: *mut f32) -> usize {
        // SAFETY: passed on to the caller.
        unsafe {
            match (L::ACCUMULATORS >= 6, left, self.near) {
                (true, 1, true) => self.run::<L, KIND, true, 1, 2>(query, out),
                (true, 1, false) => self.run::<L, KIND, false, 1, 1>(query, out),
                (true, _, true) => self.run::<L, KIND, true, 2, 1>(query, out),
                (true, _, false) => self.run::<L, KIND, false, 2, 1>(query, out),
                (false, _, true) => self.run::<L, KIND, true, 1, 1>(query, out),
                (false, _, false) => self.run::<L, KIND, false, 1, 1>(query, out),
            }
        }
    }

    /// `H` heads over keys and values, `P` pages of keys at a time.
    ///
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn run<L: Lanes, const KIND: u8, const NEAR: bool, const H: usize, const P: usize>(
        &self,
        query: *const f32,
        out: *mut f32,
    ) -> usize {
        // SAFETY: passed on to the caller. Nothing is written to `out` before all scores are, so that it has room for
        // the queries in pairs until then.
        unsafe {
            let count = self.table.len();
            let dimension = self.pages.dimension();
            let mut queries = Queries { start: query, stride: dimension, scales: [1.0 / (dimension as f32).sqrt(); H] };
            if paired(KIND) {
                for head in 0..H {
                    let (from, to) = (query.add(head * dimension), out.add(head * self.padded));
                    if KIND == PAIRS {
                        round_body::<L>(from, dimension, to.cast());
                    } else {
                        queries.scales[head] *= int16(std::slice::from_raw_parts(from, dimension), to.cast());
                    }
                }
                (queries.start, queries.stride) = (out, self.padded);
            }
            let mut most = [L::splat(f32::NEG_INFINITY); H];
            let mut page = 0;
            while page + P <= count {
                self.score::<L, KIND, NEAR, H, P>(&queries, page, &mut most);
                page += P;
            }
            while page < count {
                self.score::<L, KIND, NEAR, H, 1>(&queries, page, &mut most);
                page += 1;
            }
            let mut shares = [L::splat(0.0); H];
            for head in 0..H {
                shares[head] = self.softmax::<L, KIND>(head, most[head]);
            }
            let mut column = 0;
            while column < self.padded {
                let vectors = (self.padded - column) / 16;
                column += if L::ACCUMULATORS >= 6 && H == 1 && vectors >= 4 {
                    self.weigh::<L, KIND, NEAR, H, 4>(&shares, column, out)
                } else if L::ACCUMULATORS >= 6 && vectors >= 2 {
                    self.weigh::<L, KIND, NEAR, H, 2>(&shares, column, out)
                } else {
                    self.weigh::<L, KIND, NEAR, H, 1>(&shares, column, out)
                };
            }
            H
        }
    }

    /// Scores of `P` pages from `page` on, and the largest of each lane so far.
    ///
    /// # Safety
    /// As `attend`; the pages exist.
    #[inline(always)]
    unsafe fn score<L: Lanes, const KIND: u8, const NEAR: bool, const H: usize, const P: usize>(
        &self,
        queries: &Queries<H>,
        page: usize,
        most: &mut [L; H],
    ) {
        // SAFETY: blocks of pages in the table lie inside the slab; scores are as long as promised; a prefetch may
        // point anywhere.
        unsafe {
            let dimension = self.pages.dimension();
            let mut keys = [std::ptr::null(); P];
            let mut ahead = [std::ptr::null(); P];
            for part in 0..P {
                keys[part] = self.pages.keys(self.table[page + part]);
                // After the keys come the values.
                let next = page + part + AHEAD;
                ahead[part] = match self.table.get(next) {
                    Some(page) => self.pages.keys(*page),
                    None => self.pages.values(self.table[(next - self.table.len()).min(self.table.len() - 1)]),
                };
            }
            let mut sums = [[[L::splat(0.0); 2]; P]; H];
            for index in 0..dimension / 2 {
                let mut loaded = [(L::splat(0.0), L::splat(0.0)); P];
                for part in 0..P {
                    if !paired(KIND) {
                        loaded[part] = pair::<L, KIND>(keys[part], index, PAGE);
                    }
                    prefetch_pair::<L, KIND, NEAR>(ahead[part], index, PAGE);
                }
                for (head, sums) in sums.iter_mut().enumerate() {
                    let at = queries.start.add(head * queries.stride);
                    if paired(KIND) {
                        let pair = (*at.add(index)).to_bits();
                        for (sums, keys) in sums.iter_mut().zip(&keys) {
                            let sum = dot::<L, KIND>(sums[0], *keys, index * PAGE, pair);
                            // Two sums in turn: one would wait for itself.
                            [sums[0], sums[1]] = [sums[1], sum];
                        }
                        continue;
                    }
                    let at = at.add(2 * index);
                    let (even, odd) = (L::splat(*at), L::splat(*at.add(1)));
                    for (sums, loaded) in sums.iter_mut().zip(&loaded) {
                        sums[0] = even.fma(loaded.0, sums[0]);
                        sums[1] = odd.fma(loaded.1, sums[1]);
                    }
                }
            }
            for (head, sums) in sums.iter().enumerate() {
                for (part, &[mut even, mut odd]) in sums.iter().enumerate() {
                    let to = self.scores(head).add((page + part) * PAGE);
                    let mut scale = L::splat(queries.scales[head]);
                    if bytes(KIND) {
                        scale = scale.mul(L::load(self.pages.key_scales(self.table[page + part])));
                    }
                    if KIND == BYTE_PAIRS {
                        (even, odd) = (even.of_ints(), odd.of_ints());
                    }
                    even.add(odd).mul(scale).store(to);
                    self.beyond(page + part, to, f32::NEG_INFINITY);
                    most[head] = most[head].max(L::load(to));
                }
            }
        }
    }

    /// Writes `C` vectors of weighted values from `column` on, for each head; returns their width.
    ///
    /// # Safety
    /// As `attend`; all weights are written.
    #[inline(always)]
    unsafe fn weigh<L: Lanes, const KIND: u8, const NEAR: bool, const H: usize, const C: usize>(
        &self,
        shares: &[L; H],
        column: usize,
        out: *mut f32,
    ) -> usize {
        // SAFETY: blocks of pages in the table lie inside the slab, and a block's rows of values come in pairs; a
        // prefetch may point anywhere.
        unsafe {
            let mut sums = [[L::splat(0.0); C]; H];
            for (page, id) in self.table.iter().enumerate() {
                let values = self.pages.values(*id).wrapping_add(words::<KIND>(column));
                let ahead = self
                    .pages
                    .values(self.table[(page + AHEAD).min(self.table.len() - 1)])
                    .wrapping_add(words::<KIND>(column));
                let tokens = (self.len - page * PAGE).min(PAGE);
                if KIND == BYTE_PAIRS {
                    // The weights beyond the last token are zero.
                    let mut whole = [[L::splat(0.0); C]; H];
                    for index in 0..tokens.div_ceil(2) {
                        self.add_pairs::<L, KIND, NEAR, H, C>(&mut whole, page, index, (values, ahead));
                    }
                    for (head, (sums, whole)) in sums.iter_mut().zip(&whole).enumerate() {
                        let scale = L::splat(*self.scores(head).add(page * PAGE + PAGE / 2));
                        for (sum, whole) in sums.iter_mut().zip(whole) {
                            *sum = whole.of_ints().fma(scale, *sum);
                        }
                    }
                    continue;
                }
                for index in 0..tokens / 2 {
                    if KIND == PAIRS {
                        self.add_pairs::<L, KIND, NEAR, H, C>(&mut sums, page, index, (values, ahead));
                        continue;
                    }
                    let mut weights = [(L::splat(0.0), L::splat(0.0)); H];
                    for (head, weights) in weights.iter_mut().enumerate() {
                        let at = self.scores(head).add(page * PAGE + 2 * index);
                        *weights = (L::splat(*at), L::splat(*at.add(1)));
                    }
                    for vector in 0..C {
                        let (even, odd) = pair::<L, KIND>(values.add(words::<KIND>(vector * 16)), index, self.padded);
                        prefetch_pair::<L, KIND, NEAR>(
                            ahead.wrapping_add(words::<KIND>(vector * 16)),
                            index,
                            self.padded,
                        );
                        for (sums, weights) in sums.iter_mut().zip(&weights) {
                            sums[vector] = weights.0.fma(even, sums[vector]);
                            sums[vector] = weights.1.fma(odd, sums[vector]);
                        }
                    }
                }
                if !tokens.is_multiple_of(2) {
                    for vector in 0..C {
                        let (even, _) =
                            pair::<L, KIND>(values.add(words::<KIND>(vector * 16)), tokens / 2, self.padded);
                        for (head, sums) in sums.iter_mut().enumerate() {
                            let weights = self.scores(head).add(page * PAGE);
                            let weight = match KIND {
                                PAIRS => f32::from_bits((*weights.add(tokens / 2)).to_bits() << 16),
                                _ => *weights.add(tokens - 1),
                            };
                            let weight = L::splat(weight);
                            sums[vector] = weight.fma(even, sums[vector]);
                        }
                    }
                }
            }
            for (head, (sums, share)) in sums.iter().zip(shares).enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    sum.mul(*share).store(out.add(head * self.padded + column + vector * 16));
                }
            }
            C * 16
        }
    }

    /// Adds a pair of a page's weighted values to each sum.
    ///
    /// # Safety
    /// As `weigh`.
    #[inline(always)]
    unsafe fn add_pairs<L: Lanes, const KIND: u8, const NEAR: bool, const H: usize, const C: usize>(
        &self,
        sums: &mut [[L; C]; H],
        page: usize,
        index: usize,
        (values, ahead): (*const u32, *const u32),
    ) {
        // SAFETY: passed on to the caller.
        unsafe {
            for (head, sums) in sums.iter_mut().enumerate() {
                let pair = (*self.scores(head).add(page * PAGE + index)).to_bits();
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = dot::<L, KIND>(*sum, values, vector * 16 + index * self.padded, pair);
                }
            }
            for vector in 0..C {
                prefetch_pair::<L, KIND, NEAR>(ahead.wrapping_add(words::<KIND>(vector * 16)), index, self.padded);
            }
        }
    }

    /// A head's scores.
    #[inline(always)]
    fn scores(&self, head: usize) -> *mut f32 {
        self.scores.wrapping_add(head * self.table.len() * PAGE)
    }
}

#[cfg(test)]
mod tests;
