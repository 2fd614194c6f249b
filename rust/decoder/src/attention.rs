//! Attention of one token's queries over the pages of its sequence.
//!
//! Two walks: all scores and their softmax, then the weighted values. Query heads that share keys and values go in twos,
//! so that what a walk reads serves both. Each sum runs in the order of the positions (scores: of the dimensions, even
//! and odd ones apart), so the result depends on the sequence alone.

use crate::cache::PAGE;
use crate::simd::{Lanes, dispatch, exp, reduce};
use crate::slab::{CacheType, HeadPages};

/// Bytes of a number in the cache, by which kernels tell its types apart.
const FLOAT32: usize = 4;
const BFLOAT16: usize = 2;
const INT8: usize = 1;

/// Pages ahead that are asked for while one is worked on, if they come from the processor's last cache. Where they come
/// from memory, the processor sees the one stream that it reads coming, and asking gets in its way: on a Zen 5 the same
/// walks took 50 and 70 us with and without in the first case, 180 and 105 in the second.
const AHEAD: usize = 4;

dispatch! {
    /// `out = softmax(query · keys / sqrt(dimension)) values` over the first `len` tokens of the pages in `table`, for
    /// each of the `heads` queries.
    ///
    /// `queries` holds as many floats a head as it is wide, `out` that many rounded up to whole vectors, `scores` for
    /// each of two heads a whole page for each begun page of `len` tokens (at least one), all of which are in the table
    /// and written. `near`: they lie in the processor's cache.
    attend = attend_body(
        queries: *const f32,
        heads: usize,
        pages: HeadPages,
        table: &[u32],
        len: usize,
        near: bool,
        scores: *mut f32,
        out: *mut f32,
    )
}

/// # Safety
/// As `attend` says.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn attend_body<L: Lanes>(
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
    let walk = Walk { pages, padded, table: &table[..len.div_ceil(PAGE)], len, scores };
    let mut head = 0;
    while head < heads {
        // SAFETY: these heads' own queries and outputs; the rest is passed on to the caller.
        head += unsafe {
            let (query, out) = (queries.add(head * pages.dimension()), out.add(head * walk.padded));
            match (pages.kind(), near) {
                (CacheType::Int8, true) => walk.heads::<L, INT8, true>(heads - head, query, out),
                (CacheType::Int8, false) => walk.heads::<L, INT8, false>(heads - head, query, out),
                (CacheType::Bfloat16, true) => walk.heads::<L, BFLOAT16, true>(heads - head, query, out),
                (CacheType::Bfloat16, false) => walk.heads::<L, BFLOAT16, false>(heads - head, query, out),
                (CacheType::Float32, true) => walk.heads::<L, FLOAT32, true>(heads - head, query, out),
                (CacheType::Float32, false) => walk.heads::<L, FLOAT32, false>(heads - head, query, out),
            }
        };
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
    scores: *mut f32,
}

impl Walk<'_> {
    /// The first heads of `left`: as many as the registers hold the sums of. Returns how many.
    ///
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn heads<L: Lanes, const BYTES: usize, const NEAR: bool>(
        &self,
        left: usize,
        query: *const f32,
        out: *mut f32,
    ) -> usize {
        // SAFETY: passed on to the caller.
        unsafe {
            if L::ACCUMULATORS < 6 || (left == 1 && !NEAR) {
                self.run::<L, BYTES, NEAR, 1, 1>(query, out);
                1
            } else if left == 1 {
                self.run::<L, BYTES, NEAR, 1, 2>(query, out);
                1
            } else {
                self.run::<L, BYTES, NEAR, 2, 1>(query, out);
                2
            }
        }
    }

    /// `H` heads over keys and values, `P` pages of keys at a time.
    ///
    /// # Safety
    /// As `attend`.
    #[inline(always)]
    unsafe fn run<L: Lanes, const BYTES: usize, const NEAR: bool, const H: usize, const P: usize>(
        &self,
        query: *const f32,
        out: *mut f32,
    ) {
        // SAFETY: passed on to the caller.
        unsafe {
            let count = self.table.len();
            let mut most = [L::splat(f32::NEG_INFINITY); H];
            let mut page = 0;
            while page + P <= count {
                self.score::<L, BYTES, NEAR, H, P>(query, page, &mut most);
                page += P;
            }
            while page < count {
                self.score::<L, BYTES, NEAR, H, 1>(query, page, &mut most);
                page += 1;
            }
            let mut shares = [L::splat(0.0); H];
            for head in 0..H {
                shares[head] = self.softmax::<L, BYTES>(head, most[head]);
            }
            let mut column = 0;
            while column < self.padded {
                let vectors = (self.padded - column) / 16;
                column += if L::ACCUMULATORS >= 6 && H == 1 && vectors >= 4 {
                    self.weigh::<L, BYTES, NEAR, H, 4>(&shares, column, out)
                } else if L::ACCUMULATORS >= 6 && vectors >= 2 {
                    self.weigh::<L, BYTES, NEAR, H, 2>(&shares, column, out)
                } else {
                    self.weigh::<L, BYTES, NEAR, H, 1>(&shares, column, out)
                };
            }
        }
    }

    /// Scores of `P` pages from `page` on, and the largest of each lane so far.
    ///
    /// # Safety
    /// As `attend`; the pages exist.
    #[inline(always)]
    unsafe fn score<L: Lanes, const BYTES: usize, const NEAR: bool, const H: usize, const P: usize>(
        &self,
        query: *const f32,
        page: usize,
        most: &mut [L; H],
    ) {
        // SAFETY: blocks of pages in the table lie inside the slab; scores are as long as promised; a prefetch may point
        // anywhere.
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
                    loaded[part] = pair::<L, BYTES>(keys[part], index, PAGE);
                    prefetch_pair::<L, BYTES, NEAR>(ahead[part], index, PAGE);
                }
                for (head, sums) in sums.iter_mut().enumerate() {
                    let at = query.add(head * dimension + 2 * index);
                    let (even, odd) = (L::splat(*at), L::splat(*at.add(1)));
                    for (sums, loaded) in sums.iter_mut().zip(&loaded) {
                        sums[0] = even.fma(loaded.0, sums[0]);
                        sums[1] = odd.fma(loaded.1, sums[1]);
                    }
                }
            }
            let scale = L::splat(1.0 / (dimension as f32).sqrt());
            for (head, sums) in sums.iter().enumerate() {
                for (part, [even, odd]) in sums.iter().enumerate() {
                    let to = self.scores(head).add((page + part) * PAGE);
                    let mut scale = scale;
                    if BYTES == INT8 {
                        scale = scale.mul(L::load(self.pages.key_scales(self.table[page + part])));
                    }
                    even.add(*odd).mul(scale).store(to);
                    self.beyond(page + part, to, f32::NEG_INFINITY);
                    most[head] = most[head].max(L::load(to));
                }
            }
        }
    }

    /// Turns a head's scores into weights; returns what scales their sum to one. The weights of values that are scaled
    /// are so too.
    ///
    /// # Safety
    /// As `attend`; all scores are written.
    #[inline(always)]
    unsafe fn softmax<L: Lanes, const BYTES: usize>(&self, head: usize, most: L) -> L {
        // SAFETY: passed on to the caller.
        unsafe {
            let most = L::splat(-reduce(most, f32::max));
            let mut total = L::splat(0.0);
            for page in 0..self.table.len() {
                let at = self.scores(head).add(page * PAGE);
                exp(L::load(at).add(most)).store(at);
                self.beyond(page, at, 0.0);
                total = total.add(L::load(at));
                if BYTES == INT8 {
                    L::load(at).mul(L::load(self.pages.value_scales(self.table[page]))).store(at);
                    self.beyond(page, at, 0.0);
                }
            }
            L::splat(1.0 / reduce(total, |a, b| a + b))
        }
    }

    /// Writes `C` vectors of weighted values from `column` on, for each head; returns their width.
    ///
    /// # Safety
    /// As `attend`; all weights are written.
    #[inline(always)]
    unsafe fn weigh<L: Lanes, const BYTES: usize, const NEAR: bool, const H: usize, const C: usize>(
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
                let values = self.pages.values(*id).wrapping_add(words::<BYTES>(column));
                let ahead = self
                    .pages
                    .values(self.table[(page + AHEAD).min(self.table.len() - 1)])
                    .wrapping_add(words::<BYTES>(column));
                let tokens = (self.len - page * PAGE).min(PAGE);
                for index in 0..tokens / 2 {
                    let mut weights = [(L::splat(0.0), L::splat(0.0)); H];
                    for (head, weights) in weights.iter_mut().enumerate() {
                        let at = self.scores(head).add(page * PAGE + 2 * index);
                        *weights = (L::splat(*at), L::splat(*at.add(1)));
                    }
                    for vector in 0..C {
                        let (even, odd) = pair::<L, BYTES>(values.add(words::<BYTES>(vector * 16)), index, self.padded);
                        prefetch_pair::<L, BYTES, NEAR>(
                            ahead.wrapping_add(words::<BYTES>(vector * 16)),
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
                            pair::<L, BYTES>(values.add(words::<BYTES>(vector * 16)), tokens / 2, self.padded);
                        for (head, sums) in sums.iter_mut().enumerate() {
                            let weight = L::splat(*self.scores(head).add(page * PAGE + tokens - 1));
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

    /// A head's scores.
    #[inline(always)]
    fn scores(&self, head: usize) -> *mut f32 {
        self.scores.wrapping_add(head * self.table.len() * PAGE)
    }

    /// Fills the lanes of a page's scores that lie beyond the sequence.
    ///
    /// # Safety
    /// `scores` holds the page's.
    #[inline(always)]
    unsafe fn beyond(&self, page: usize, scores: *mut f32, value: f32) {
        for lane in (self.len - page * PAGE).min(PAGE)..PAGE {
            // SAFETY: a lane of the page.
            unsafe { *scores.add(lane) = value };
        }
    }
}

/// Words from the begin of a row to a column of it.
const fn words<const BYTES: usize>(column: usize) -> usize {
    if BYTES == INT8 { column / 4 } else { column }
}

/// Rows `2 index` and `2 index + 1` of a block whose rows are `stride` numbers.
///
/// # Safety
/// As `Lanes`; the block has them.
#[inline(always)]
unsafe fn pair<L: Lanes, const BYTES: usize>(block: *const u32, index: usize, stride: usize) -> (L, L) {
    // SAFETY: passed on to the caller.
    unsafe {
        match BYTES {
            INT8 => {
                let first = block.cast::<i8>().add(2 * index * stride);
                (L::load_i8(first), L::load_i8(first.add(stride)))
            }
            BFLOAT16 => L::bf16_pairs(block.add(index * stride)),
            _ => {
                let first = block.cast::<f32>().add(2 * index * stride);
                (L::load(first), L::load(first.add(stride)))
            }
        }
    }
}

/// Asks for the lines that `pair` reads, if they are near.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
unsafe fn prefetch_pair<L: Lanes, const BYTES: usize, const NEAR: bool>(
    block: *const u32,
    index: usize,
    stride: usize,
) {
    if !NEAR {
        return;
    }
    // SAFETY: a hint, which may point anywhere.
    unsafe {
        match BYTES {
            INT8 => {
                let first = block.cast::<i8>().wrapping_add(2 * index * stride);
                L::prefetch(first.cast());
                if stride > PAGE {
                    L::prefetch(first.wrapping_add(stride).cast());
                }
            }
            BFLOAT16 => L::prefetch(block.wrapping_add(index * stride).cast()),
            _ => {
                L::prefetch(block.wrapping_add(2 * index * stride).cast());
                L::prefetch(block.wrapping_add((2 * index + 1) * stride).cast());
            }
        }
    }
}

#[cfg(test)]
mod tests;
