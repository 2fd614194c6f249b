//! The memory of the KV cache: keys and values of sixteen tokens a page.
//!
//! `[layer][page][head]` blocks; a block is the keys `[dimension][16 tokens]`, then the values `[token][dimension]`
//! with the dimension padded to a whole vector. Keys lie across tokens, so that the scores of sixteen tokens are one
//! vector; the pages of a sequence may lie anywhere. Padding is never written and stays zero.

use crate::cache::PAGE;
use crate::config::Config;
use crate::memory::Memory;

/// Keys and values of all layers.
pub(crate) struct Slab {
    /// Owns what `start` points to; every access goes through `start`.
    _memory: Memory,
    start: *mut f32,
    pages: usize,
    kv_heads: usize,
    head_dim: usize,
    padded: usize,
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
        let mut memory = Memory::zeroed(pages * Self::page_bytes(config) / 4)?;
        let start = memory.floats_mut().as_mut_ptr();
        Ok(Self {
            _memory: memory,
            start,
            pages,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            padded: config.head_dim.next_multiple_of(16),
        })
    }

    /// Floats from one page to the next, within a layer and head.
    pub(crate) fn page_stride(&self) -> usize {
        self.kv_heads * self.block()
    }

    /// Floats from the keys of a block to its values.
    pub(crate) fn values_offset(&self) -> usize {
        self.head_dim * PAGE
    }

    /// The block of `layer` and `head` in page 0.
    pub(crate) fn head(&self, layer: usize, head: usize) -> *const f32 {
        self.block_at(layer, 0, head)
    }

    fn block(&self) -> usize {
        PAGE * (self.head_dim + self.padded)
    }

    fn block_at(&self, layer: usize, page: u32, head: usize) -> *mut f32 {
        let block = (layer * self.pages + page as usize) * self.kv_heads + head;
        self.start.wrapping_add(block * self.block())
    }

    /// Writes one token's keys and values of one layer.
    ///
    /// # Safety
    /// No other thread reads or writes this slot at the same time; `layer` exists.
    pub(crate) unsafe fn put(
        &self,
        layer: usize,
        page: u32,
        lane: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        assert!((page as usize) < self.pages && lane < PAGE);
        let heads = keys
            .chunks_exact(self.head_dim)
            .zip(values.chunks_exact(self.head_dim));
        for (head, (keys, values)) in heads.enumerate().take(self.kv_heads) {
            let block = self.block_at(layer, page, head);
            // SAFETY: the block lies inside the slab by the assertion, the slot is the caller's.
            unsafe {
                for (dimension, key) in keys.iter().enumerate() {
                    *block.add(dimension * PAGE + lane) = *key;
                }
                let to = block.add(self.values_offset() + lane * self.padded);
                to.copy_from_nonoverlapping(values.as_ptr(), self.head_dim);
            }
        }
    }

    /// Copies the first `count` tokens of a page in one layer.
    ///
    /// # Safety
    /// No other thread uses the target's first `count` slots or writes the source's; `layer` exists.
    pub(crate) unsafe fn copy(&self, layer: usize, from: u32, to: u32, count: usize) {
        assert!((from.max(to) as usize) < self.pages && from != to && count <= PAGE);
        for head in 0..self.kv_heads {
            let (from, to) = (
                self.block_at(layer, from, head),
                self.block_at(layer, to, head),
            );
            // SAFETY: two different blocks inside the slab.
            unsafe {
                for dimension in 0..self.head_dim {
                    let at = dimension * PAGE;
                    to.add(at).copy_from_nonoverlapping(from.add(at), count);
                }
                let at = self.values_offset();
                to.add(at)
                    .copy_from_nonoverlapping(from.add(at), count * self.padded);
            }
        }
    }
}
