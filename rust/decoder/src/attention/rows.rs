//! Rows of a block of keys or values, as the cache keeps them.

use crate::simd::Lanes;
use crate::slab::quantized;

/// What a kernel reads: numbers of the cache's type, which it widens, or pairs of bfloat16 or of bytes, to be
/// multiplied with pairs of bfloat16 or int16.
pub(super) const FLOAT32: u8 = 0;
pub(super) const BFLOAT16: u8 = 1;
pub(super) const INT8: u8 = 2;
pub(super) const PAIRS: u8 = 3;
pub(super) const BYTE_PAIRS: u8 = 4;

/// Whether what it reads is multiplied in pairs.
pub(super) const fn paired(kind: u8) -> bool {
    kind == PAIRS || kind == BYTE_PAIRS
}

/// Whether what it reads are bytes, which have scales.
pub(super) const fn bytes(kind: u8) -> bool {
    kind == INT8 || kind == BYTE_PAIRS
}

/// Words from the begin of a row to a column of it.
pub(super) const fn words<const KIND: u8>(column: usize) -> usize {
    if bytes(KIND) { column / 2 } else { column }
}

/// Rows `2 index` and `2 index + 1` of a block whose rows are `stride` numbers.
///
/// # Safety
/// As `Lanes`; the block has them.
#[inline(always)]
pub(super) unsafe fn pair<L: Lanes, const KIND: u8>(block: *const u32, index: usize, stride: usize) -> (L, L) {
    // SAFETY: passed on to the caller.
    unsafe {
        match KIND {
            INT8 | BYTE_PAIRS => L::i8_pairs(block.cast::<i8>().add(2 * index * stride)),
            BFLOAT16 | PAIRS => L::bf16_pairs(block.add(index * stride)),
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
pub(super) unsafe fn prefetch_pair<L: Lanes, const KIND: u8, const NEAR: bool>(
    block: *const u32,
    index: usize,
    stride: usize,
) {
    if !NEAR {
        return;
    }
    // SAFETY: a hint, which may point anywhere.
    unsafe {
        match KIND {
            INT8 | BYTE_PAIRS => L::prefetch(block.cast::<u8>().wrapping_add(2 * index * stride)),
            BFLOAT16 | PAIRS => L::prefetch(block.wrapping_add(index * stride).cast()),
            _ => {
                L::prefetch(block.wrapping_add(2 * index * stride).cast());
                L::prefetch(block.wrapping_add((2 * index + 1) * stride).cast());
            }
        }
    }
}

/// The sum and the products of sixteen pairs from the `column`th on with one.
///
/// # Safety
/// As `Lanes`; the block has them.
#[inline(always)]
pub(super) unsafe fn dot<L: Lanes, const KIND: u8>(sum: L, block: *const u32, column: usize, with: u32) -> L {
    // SAFETY: passed on to the caller.
    unsafe {
        match KIND {
            BYTE_PAIRS => sum.dot_i8(block.cast::<i8>().add(2 * column), with),
            _ => sum.dot(block.add(column), with),
        }
    }
}

/// Writes a query as int16, so small that no sum of products with bytes overflows; returns what they are multiples of.
///
/// # Safety
/// `to` has room.
pub(super) unsafe fn int16(query: &[f32], to: *mut i16) -> f32 {
    let bound = (i32::MAX as usize / (127 * query.len())).min(i16::MAX as usize);
    let (scale, numbers) = quantized(query, bound as f32);
    for (index, number) in numbers.enumerate() {
        // SAFETY: by the contract.
        unsafe { *to.add(index) = number as i16 };
    }
    scale
}
