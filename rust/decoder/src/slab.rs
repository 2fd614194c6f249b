//! The memory of the KV cache: keys and values of sixteen tokens a page.
//!
//! `[chunk][layer][head][page of the chunk]` blocks of words, in each chunk all keys before all values. A block of keys
//! is `[dimension][16 tokens]`, so that the scores of sixteen tokens are one vector; one of values is
//! `[token][dimension]` with the dimension padded to a whole vector, and the padding stays zero. A word is one float32,
//! or the bfloat16 of two successive dimensions (keys) or tokens (values), low half first: half the memory traffic, and
//! either kind is read as pairs of rows. Signed bytes are in such pairs too, two a word; a head's keys or values of one
//! token have a scale, and the sixteen scales follow a block. The pages of a sequence may lie anywhere, but they follow
//! each other more often than not: a head's next block is then the next in memory, which the processor fetches by
//! itself. Chunks keep what a short sequence touches together, a few huge pages instead of one for each layer and head.

use crate::brain::nearest;
use crate::cache::PAGE;
use crate::config::Config;
use crate::memory::Memory;

/// A chunk is at most this large, and at most this many pages.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_PAGES: usize = 32;

/// What the cache keeps keys and values in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    /// A quarter of the memory and a little for scales: rounded to 127ths of the largest number of a token's head.
    Int8,
    /// Half the memory; rounded to the nearest, ties to even.
    Bfloat16,
    /// As they were computed.
    Float32,
}

impl CacheType {
    /// Numbers in a word.
    fn packed(self) -> usize {
        match self {
            Self::Int8 => 4,
            Self::Bfloat16 => 2,
            Self::Float32 => 1,
        }
    }

    /// Words behind a block of sixteen tokens.
    fn scales(self) -> usize {
        if self == Self::Int8 { PAGE } else { 0 }
    }
}

/// Keys and values of all layers.
pub(crate) struct Slab {
    /// Owns what `start` points to; every access goes through `start`.
    _memory: Memory,
    start: *mut u32,
    pages: usize,
    kv_heads: usize,
    /// Keys of all layers and heads in a chunk, in words.
    chunk_keys: usize,
    blocks: Blocks,
}

/// The arithmetic of blocks, in words.
#[derive(Clone, Copy)]
struct Blocks {
    /// Pages of a chunk are 2^shift.
    shift: u32,
    chunk: usize,
    keys: usize,
    values: usize,
    /// A token's values.
    padded: usize,
    head_dim: usize,
    kind: CacheType,
}

// SAFETY: shared access writes only through `put` and `copy`, whose callers promise disjoint slots, and reads only
// what no thread writes at that time.
unsafe impl Sync for Slab {}
// SAFETY: `start` points into `memory`, which moves along.
unsafe impl Send for Slab {}

impl Slab {
    /// Bytes of one page over all layers.
    pub(crate) fn page_bytes(config: &Config, kind: CacheType) -> usize {
        let block = PAGE * (config.head_dim + config.head_dim.next_multiple_of(16)) / kind.packed();
        config.layers * config.kv_heads * (block + 2 * kind.scales()) * 4
    }

    pub(crate) fn new(config: &Config, kind: CacheType, pages: usize) -> std::io::Result<Self> {
        let page = Self::page_bytes(config, kind);
        let shift = (CHUNK_BYTES / page).clamp(1, CHUNK_PAGES).ilog2();
        let padded = config.head_dim.next_multiple_of(16);
        let blocks = Blocks {
            shift,
            chunk: (page / 4) << shift,
            keys: PAGE * config.head_dim / kind.packed() + kind.scales(),
            values: PAGE * padded / kind.packed() + kind.scales(),
            padded,
            head_dim: config.head_dim,
            kind,
        };
        let mut memory = Memory::zeroed(pages.div_ceil(1 << shift) * blocks.chunk)?;
        Ok(Self {
            start: memory.words_mut().as_mut_ptr(),
            _memory: memory,
            pages,
            kv_heads: config.kv_heads,
            chunk_keys: (config.layers * config.kv_heads * blocks.keys) << shift,
            blocks,
        })
    }

    /// A layer's keys and values of one head, in all pages.
    pub(crate) fn head(&self, layer: usize, head: usize) -> HeadPages {
        let index = layer * self.kv_heads + head;
        let Blocks { shift, keys, values, .. } = self.blocks;
        HeadPages {
            keys: self.start.wrapping_add((index * keys) << shift),
            values: self.start.wrapping_add(self.chunk_keys + ((index * values) << shift)),
            blocks: self.blocks,
        }
    }

    /// Writes one token's keys and values of one layer.
    ///
    /// # Safety
    /// No other thread reads or writes this slot at the same time; `layer` exists.
    pub(crate) unsafe fn put(&self, layer: usize, page: u32, lane: usize, keys: &[f32], values: &[f32]) {
        assert!((page as usize) < self.pages && lane < PAGE);
        let Blocks { head_dim, padded, kind, .. } = self.blocks;
        let heads = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (head, (keys, values)) in heads.enumerate().take(self.kv_heads) {
            let pages = self.head(layer, head);
            let (to_keys, to_values) = (pages.keys(page).cast_mut(), pages.values(page).cast_mut());
            // SAFETY: the blocks lie inside the slab by the assertion, the slot is the caller's; of a word that two
            // tokens share, only this token's half is written.
            unsafe {
                match kind {
                    CacheType::Int8 => {
                        let (scale, bytes) = quantized(keys, 127.0);
                        *pages.key_scales(page).cast_mut().add(lane) = scale;
                        for (dimension, key) in bytes.enumerate() {
                            let place = (dimension / 2 * PAGE + lane) * 2 + dimension % 2;
                            *to_keys.cast::<i8>().add(place) = key as i8;
                        }
                        let (scale, bytes) = quantized(values, 127.0);
                        *pages.value_scales(page).cast_mut().add(lane) = scale;
                        let to = to_values.cast::<i8>().add(lane / 2 * padded * 2 + lane % 2);
                        for (dimension, value) in bytes.enumerate() {
                            *to.add(2 * dimension) = value as i8;
                        }
                    }
                    CacheType::Float32 => {
                        for (dimension, key) in keys.iter().enumerate() {
                            *to_keys.add(dimension * PAGE + lane) = key.to_bits();
                        }
                        to_values.add(lane * padded).cast::<f32>().copy_from_nonoverlapping(values.as_ptr(), head_dim);
                    }
                    CacheType::Bfloat16 => {
                        for (index, pair) in keys.chunks_exact(2).enumerate() {
                            let word = u32::from(nearest(pair[0])) | u32::from(nearest(pair[1])) << 16;
                            *to_keys.add(index * PAGE + lane) = word;
                        }
                        let to = to_values.add(lane / 2 * padded).cast::<u16>().add(lane % 2);
                        for (dimension, value) in values.iter().enumerate() {
                            *to.add(2 * dimension) = nearest(*value);
                        }
                    }
                }
            }
        }
    }

    /// Copies the first `count` tokens of a page in one layer.
    ///
    /// # Safety
    /// No other thread uses the target's first `count` slots or writes the source's; `layer` exists.
    pub(crate) unsafe fn copy(&self, layer: usize, from: u32, to: u32, count: usize) {
        assert!((from.max(to) as usize) < self.pages && from != to && count <= PAGE);
        let Blocks { head_dim, padded, kind, .. } = self.blocks;
        for head in 0..self.kv_heads {
            let pages = self.head(layer, head);
            let keys = (pages.keys(from), pages.keys(to).cast_mut());
            let values = (pages.values(from), pages.values(to).cast_mut());
            // SAFETY: two different blocks inside the slab, of keys and of values, each with its scales.
            unsafe {
                match kind {
                    CacheType::Int8 => {
                        copy_pairs::<i8>(keys, values, head_dim, padded, count);
                        pages.key_scales(to).cast_mut().copy_from_nonoverlapping(pages.key_scales(from), count);
                        pages.value_scales(to).cast_mut().copy_from_nonoverlapping(pages.value_scales(from), count);
                    }
                    CacheType::Bfloat16 => copy_pairs::<u16>(keys, values, head_dim, padded, count),
                    CacheType::Float32 => {
                        for row in 0..head_dim {
                            keys.1.add(row * PAGE).copy_from_nonoverlapping(keys.0.add(row * PAGE), count);
                        }
                        values.1.copy_from_nonoverlapping(values.0, count * padded);
                    }
                }
            }
        }
    }
}

/// Copies the first `count` tokens of a block of keys and one of values whose rows come in pairs of `T`, from the first
/// to the second of each.
///
/// # Safety
/// The blocks are two different ones, and have the rows.
unsafe fn copy_pairs<T: Copy>(
    keys: (*const u32, *mut u32),
    values: (*const u32, *mut u32),
    head_dim: usize,
    padded: usize,
    count: usize,
) {
    let (from_keys, to_keys) = (keys.0.cast::<[T; 2]>(), keys.1.cast::<[T; 2]>());
    let (from_values, to_values) = (values.0.cast::<[T; 2]>(), values.1.cast::<[T; 2]>());
    let whole = count / 2 * padded;
    // SAFETY: passed on to the caller.
    unsafe {
        for row in 0..head_dim / 2 {
            to_keys.add(row * PAGE).copy_from_nonoverlapping(from_keys.add(row * PAGE), count);
        }
        to_values.copy_from_nonoverlapping(from_values, whole);
        if !count.is_multiple_of(2) {
            // The other half of these pairs is a token that the target has already.
            let (source, target) = (from_values.add(whole).cast::<T>(), to_values.add(whole).cast::<T>());
            for dimension in 0..padded {
                *target.add(2 * dimension) = *source.add(2 * dimension);
            }
        }
    }
}

/// A row as whole multiples of its scale, from `-bound` to `bound`; if one of its numbers is not finite, the scale is
/// none either.
pub(crate) fn quantized(row: &[f32], bound: f32) -> (f32, impl Iterator<Item = f32>) {
    let largest = row.iter().fold(0.0, |most: f32, number| most.max(number.abs()));
    let finite = row.iter().all(|number| number.is_finite());
    let inverse = if largest > 0.0 { bound / largest } else { 0.0 };
    let scale = if finite { largest / bound } else { f32::NAN };
    // To the nearest, ties to even, without a call: this pushes the fraction out of the mantissa.
    const SHIFT: f32 = 12_582_912.0;
    (scale, row.iter().map(move |number| (number * inverse + SHIFT) - SHIFT))
}

/// Where the keys and values of one layer and head lie.
#[derive(Clone, Copy)]
pub(crate) struct HeadPages {
    /// The blocks of page 0.
    keys: *mut u32,
    values: *mut u32,
    blocks: Blocks,
}

impl HeadPages {
    /// Width of the head.
    #[inline(always)]
    pub(crate) fn dimension(&self) -> usize {
        self.blocks.head_dim
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> CacheType {
        self.blocks.kind
    }

    /// The page's block of keys.
    #[inline(always)]
    pub(crate) fn keys(&self, page: u32) -> *const u32 {
        self.keys.wrapping_add(self.offset(page, self.blocks.keys))
    }

    /// The page's block of values.
    #[inline(always)]
    pub(crate) fn values(&self, page: u32) -> *const u32 {
        self.values.wrapping_add(self.offset(page, self.blocks.values))
    }

    /// What each token's bytes in the page's block of keys are multiples of.
    #[inline(always)]
    pub(crate) fn key_scales(&self, page: u32) -> *const f32 {
        self.keys(page).wrapping_add(self.blocks.keys - self.blocks.kind.scales()).cast()
    }

    /// And of values.
    #[inline(always)]
    pub(crate) fn value_scales(&self, page: u32) -> *const f32 {
        self.values(page).wrapping_add(self.blocks.values - self.blocks.kind.scales()).cast()
    }

    #[inline(always)]
    fn offset(&self, page: u32, block: usize) -> usize {
        let (page, shift) = (page as usize, self.blocks.shift);
        (page >> shift) * self.blocks.chunk + (page & ((1 << shift) - 1)) * block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_nearest_multiples_of_the_largest() {
        let of = |row: &[f32]| {
            let (scale, bytes) = quantized(row, 127.0);
            (scale, bytes.map(|byte| byte as i8).collect::<Vec<_>>())
        };
        assert_eq!(of(&[12.7, -6.4, 0.04, 0.06]), (0.1, vec![127, -64, 0, 1]));
        assert_eq!(of(&[-254.0, 2.0, 3.0, 5.0]), (2.0, vec![-127, 1, 2, 2]));
        assert_eq!(of(&[0.0, -0.0]), (0.0, vec![0, 0]));
        for wrong in [f32::NAN, f32::INFINITY] {
            assert!(of(&[1.0, wrong]).0.is_nan());
        }
        // A row of subnormal numbers is as good as none.
        let (scale, bytes) = of(&[1e-44, 0.0]);
        assert!(bytes.iter().all(|byte| (scale * f32::from(*byte)).abs() <= 1e-42));
    }
}
