//! The memory of the KV cache: keys and values of sixteen tokens a page.
//!
//! `[chunk][layer][head][page of the chunk]` blocks, in each chunk all keys before all values. A block of keys is
//! `[dimension][16 tokens]`, so that the scores of sixteen tokens are one vector; one of values is `[token][dimension]`
//! with the dimension padded to a whole vector, and the padding stays zero. The pages of a sequence may lie anywhere,
//! but they follow each other more often than not: a head's next block is then the next in memory, which the processor
//! fetches by itself. Chunks keep what a short sequence touches together, a few huge pages instead of one for each
//! layer and head.

use crate::cache::PAGE;
use crate::config::Config;
use crate::memory::Memory;

/// A chunk is at most this large, and at most this many pages.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_PAGES: usize = 32;

/// Keys and values of all layers.
pub(crate) struct Slab {
    /// Owns what `start` points to; every access goes through `start`.
    _memory: Memory,
    start: *mut f32,
    pages: usize,
    kv_heads: usize,
    /// Keys of all layers and heads in a chunk, in floats.
    chunk_keys: usize,
    blocks: Blocks,
}

/// The arithmetic of blocks, in floats.
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
}

// SAFETY: shared access writes only through `put` and `copy`, whose callers promise disjoint slots, and reads only
// what no thread writes at that time.
unsafe impl Sync for Slab {}
// SAFETY: `start` points into `memory`, which moves along.
unsafe impl Send for Slab {}

impl Slab {
    /// Bytes of one page over all layers.
    pub(crate) fn page_bytes(config: &Config) -> usize {
        let block = PAGE * (config.head_dim + config.head_dim.next_multiple_of(16));
        config.layers * config.kv_heads * block * 4
    }

    pub(crate) fn new(config: &Config, pages: usize) -> std::io::Result<Self> {
        let page = Self::page_bytes(config);
        let shift = (CHUNK_BYTES / page).clamp(1, CHUNK_PAGES).ilog2();
        let padded = config.head_dim.next_multiple_of(16);
        let blocks = Blocks {
            shift,
            chunk: (page / 4) << shift,
            keys: PAGE * config.head_dim,
            values: PAGE * padded,
            padded,
            head_dim: config.head_dim,
        };
        let mut memory = Memory::zeroed(pages.div_ceil(1 << shift) * blocks.chunk)?;
        Ok(Self {
            start: memory.floats_mut().as_mut_ptr(),
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
        let Blocks { head_dim, padded, .. } = self.blocks;
        let heads = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (head, (keys, values)) in heads.enumerate().take(self.kv_heads) {
            let pages = self.head(layer, head);
            // SAFETY: the block lies inside the slab by the assertion, the slot is the caller's.
            unsafe {
                let to = pages.keys(page).cast_mut();
                for (dimension, key) in keys.iter().enumerate() {
                    *to.add(dimension * PAGE + lane) = *key;
                }
                let to = pages.values(page).cast_mut().add(lane * padded);
                to.copy_from_nonoverlapping(values.as_ptr(), head_dim);
            }
        }
    }

    /// Copies the first `count` tokens of a page in one layer.
    ///
    /// # Safety
    /// No other thread uses the target's first `count` slots or writes the source's; `layer` exists.
    pub(crate) unsafe fn copy(&self, layer: usize, from: u32, to: u32, count: usize) {
        assert!((from.max(to) as usize) < self.pages && from != to && count <= PAGE);
        let Blocks { head_dim, padded, .. } = self.blocks;
        for head in 0..self.kv_heads {
            let pages = self.head(layer, head);
            // SAFETY: two different blocks inside the slab, of keys and of values.
            unsafe {
                for dimension in 0..head_dim {
                    let source = pages.keys(from).add(dimension * PAGE);
                    let target = pages.keys(to).cast_mut().add(dimension * PAGE);
                    target.copy_from_nonoverlapping(source, count);
                }
                let target = pages.values(to).cast_mut();
                target.copy_from_nonoverlapping(pages.values(from), count * padded);
            }
        }
    }
}

/// Where the keys and values of one layer and head lie.
#[derive(Clone, Copy)]
pub(crate) struct HeadPages {
    /// The blocks of page 0.
    keys: *mut f32,
    values: *mut f32,
    blocks: Blocks,
}

impl HeadPages {
    /// Width of the head.
    #[inline(always)]
    pub(crate) fn dimension(&self) -> usize {
        self.blocks.head_dim
    }

    /// The page's block of keys.
    #[inline(always)]
    pub(crate) fn keys(&self, page: u32) -> *const f32 {
        self.keys.wrapping_add(self.offset(page, self.blocks.keys))
    }

    /// The page's block of values.
    #[inline(always)]
    pub(crate) fn values(&self, page: u32) -> *const f32 {
        self.values.wrapping_add(self.offset(page, self.blocks.values))
    }

    #[inline(always)]
    fn offset(&self, page: u32, block: usize) -> usize {
        let (page, shift) = (page as usize, self.blocks.shift);
        (page >> shift) * self.blocks.chunk + (page & ((1 << shift) - 1)) * block
    }
}
