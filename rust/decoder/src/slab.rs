//! The memory of the KV cache: keys and values of sixteen tokens a page.
//!
//! `[layer][head][page]` blocks, all keys before all values. A block of keys is `[dimension][16 tokens]`, so that the
//! scores of sixteen tokens are one vector; one of values is `[token][dimension]` with the dimension padded to a whole
//! vector, and the padding stays zero. The pages of a sequence may lie anywhere, but they follow each other more often
//! than not: a head's next block is then the next in memory, which the processor fetches by itself.

use crate::cache::PAGE;
use crate::config::Config;
use crate::memory::Memory;

/// Keys and values of all layers.
pub(crate) struct Slab {
    /// Owns what `start` points to; every access goes through `start`.
    _memory: Memory,
    start: *mut f32,
    layers: usize,
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
            layers: config.layers,
            pages,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            padded: config.head_dim.next_multiple_of(16),
        })
    }

    /// A layer's keys and values of one head, in all pages.
    pub(crate) fn head(&self, layer: usize, head: usize) -> HeadPages {
        HeadPages { keys: self.keys(layer, head, 0), values: self.values(layer, head, 0), dimension: self.head_dim }
    }

    fn keys(&self, layer: usize, head: usize, page: u32) -> *mut f32 {
        let block = (layer * self.kv_heads + head) * self.pages + page as usize;
        self.start.wrapping_add(block * PAGE * self.head_dim)
    }

    fn values(&self, layer: usize, head: usize, page: u32) -> *mut f32 {
        let keys = self.layers * self.kv_heads * self.pages * PAGE * self.head_dim;
        let block = (layer * self.kv_heads + head) * self.pages + page as usize;
        self.start.wrapping_add(keys + block * PAGE * self.padded)
    }

    /// Writes one token's keys and values of one layer.
    ///
    /// # Safety
    /// No other thread reads or writes this slot at the same time; `layer` exists.
    pub(crate) unsafe fn put(&self, layer: usize, page: u32, lane: usize, keys: &[f32], values: &[f32]) {
        assert!((page as usize) < self.pages && lane < PAGE);
        let heads = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim));
        for (head, (keys, values)) in heads.enumerate().take(self.kv_heads) {
            let to = self.keys(layer, head, page);
            // SAFETY: the block lies inside the slab by the assertion, the slot is the caller's.
            unsafe {
                for (dimension, key) in keys.iter().enumerate() {
                    *to.add(dimension * PAGE + lane) = *key;
                }
                let to = self.values(layer, head, page).add(lane * self.padded);
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
            // SAFETY: two different blocks inside the slab, of keys and of values.
            unsafe {
                for dimension in 0..self.head_dim {
                    let at = dimension * PAGE;
                    let source = self.keys(layer, head, from).add(at);
                    self.keys(layer, head, to).add(at).copy_from_nonoverlapping(source, count);
                }
                let source = self.values(layer, head, from);
                self.values(layer, head, to).copy_from_nonoverlapping(source, count * self.padded);
            }
        }
    }
}

/// Where the keys and values of one layer and head lie.
#[derive(Clone, Copy)]
pub(crate) struct HeadPages {
    /// The block of keys of page 0; that of page p is p blocks further.
    pub(crate) keys: *const f32,
    /// The block of values of page 0.
    pub(crate) values: *const f32,
    /// Width of the head.
    pub(crate) dimension: usize,
}
