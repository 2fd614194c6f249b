//! From scores to weights.

use super::Walk;
use super::rows::{BYTE_PAIRS, PAIRS, bytes};
use crate::cache::PAGE;
use crate::simd::{Lanes, exp, reduce};

impl Walk<'_> {
    /// Turns a head's scores into weights, in pairs if they meet pairs; returns what scales their sum to one. Weights
    /// of values that are scaled are so too; those in int16 have a scale a page, in the page's ninth word.
    ///
    /// # Safety
    /// As `attend`; all scores are written.
    #[inline(always)]
    pub(super) unsafe fn softmax<L: Lanes, const KIND: u8>(&self, head: usize, most: L) -> L {
        // SAFETY: passed on to the caller.
        unsafe {
            let most = L::splat(-reduce(most, f32::max));
            let mut total = L::splat(0.0);
            let mut scaled = L::splat(0.0);
            for page in 0..self.table.len() {
                let at = self.scores(head).add(page * PAGE);
                exp(L::load(at).add(most)).store(at);
                self.beyond(page, at, 0.0);
                total = total.add(L::load(at));
                if bytes(KIND) {
                    L::load(at).mul(L::load(self.pages.value_scales(self.table[page]))).store(at);
                    self.beyond(page, at, 0.0);
                }
                if KIND == PAIRS {
                    L::load(at).store_bf16(at.cast());
                } else if KIND == BYTE_PAIRS {
                    let weights = L::load(at);
                    scaled = scaled.add(weights);
                    let largest = reduce(weights, f32::max);
                    let inverse = if largest > 0.0 { f32::from(i16::MAX) / largest } else { 0.0 };
                    weights.mul(L::splat(inverse)).store_i16(at.cast());
                    *at.add(PAGE / 2) = largest / f32::from(i16::MAX);
                }
            }
            let mut share = 1.0 / reduce(total, |a, b| a + b);
            if KIND == BYTE_PAIRS {
                // What is not a finite number has no int16, but ends in the sum.
                share += 0.0 * reduce(scaled, |a, b| a + b);
            }
            L::splat(share)
        }
    }

    /// Fills the lanes of a page's scores that lie beyond the sequence.
    ///
    /// # Safety
    /// `scores` holds the page's.
    #[inline(always)]
    pub(super) unsafe fn beyond(&self, page: usize, scores: *mut f32, value: f32) {
        for lane in (self.len - page * PAGE).min(PAGE)..PAGE {
            // SAFETY: a lane of the page.
            unsafe { *scores.add(lane) = value };
        }
    }
}
