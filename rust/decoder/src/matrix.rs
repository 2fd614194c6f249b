//! A weight matrix, packed once for products with any number of rows.
//!
//! Sixteen output columns form a panel: `[panel][step][lane]` words. A product reads panels front to back, for few rows
//! up to four at once, each a stream of its own that the processor can follow. A word is one float32, or the bfloat16
//! of two successive inputs (low half first), so a bfloat16 checkpoint is half the memory traffic at the same float32
//! result, or is multiplied with inputs that are rounded to such pairs. Each output sums its inputs, or pairs of them,
//! in ascending order in one accumulator, whatever the number of rows: a row's result does not depend on its batch
//! mates.

use std::cell::RefCell;

use crate::brain::{ComputeType, round_rows};
use crate::memory::{Memory, Shared};
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Lanes, dispatch};

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;
/// Panels of a task.
const GROUP: usize = 4;
/// Rows that one task of a large product covers: they and a group of weights stay in the second-level cache.
const ROWS_PER_TASK: usize = 48;
/// Multiplications below which handing out tasks costs more than it saves.
const SERIAL: usize = 1 << 15;

/// What a kernel multiplies: floats with floats, floats with pairs of bfloat16, or pairs with pairs.
const FLOATS: u8 = 0;
const WIDENED: u8 = 1;
const PAIRS: u8 = 2;

thread_local! {
    /// The inputs of a product, in pairs.
    static ROUNDED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// A tensor as a checkpoint holds it: row-major, `rows` outputs of `columns` inputs.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    Float(&'a [f32]),
    /// Bits of bfloat16.
    Brain(&'a [u16]),
}

impl Values<'_> {
    pub(crate) fn get(&self, index: usize) -> f32 {
        match self {
            Self::Float(values) => values[index],
            Self::Brain(values) => f32::from_bits(u32::from(values[index]) << 16),
        }
    }
}

/// A packed matrix.
pub(crate) struct Matrix {
    words: Shared,
    inputs: usize,
    /// A whole number of panels.
    outputs: usize,
    brain: bool,
}

/// What a product does with its result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Overwrites the output.
    Set,
    /// Adds to the output.
    Add,
}

impl Matrix {
    /// Packs one output per entry of `rows`: a tensor and the row in it, None for a column of zeros.
    pub(crate) fn pack(inputs: usize, rows: &[Option<(Values<'_>, usize)>]) -> std::io::Result<Self> {
        let outputs = rows.len().next_multiple_of(PANEL);
        let brain =
            inputs.is_multiple_of(2) && rows.iter().flatten().all(|(values, _)| matches!(values, Values::Brain(_)));
        let steps = if brain { inputs / 2 } else { inputs };
        let mut words = Memory::zeroed(outputs * steps)?;
        for (output, row) in rows.iter().enumerate() {
            let Some((values, row)) = *row else { continue };
            let start = output / PANEL * PANEL * steps + output % PANEL;
            let target = words.words_mut()[start..].iter_mut().step_by(PANEL);
            match values {
                Values::Brain(values) if brain => {
                    let source = values[row * inputs..][..inputs].chunks_exact(2);
                    for (word, pair) in target.zip(source) {
                        *word = u32::from(pair[0]) | u32::from(pair[1]) << 16;
                    }
                }
                Values::Float(values) => {
                    for (word, value) in target.zip(&values[row * inputs..][..inputs]) {
                        *word = value.to_bits();
                    }
                }
                Values::Brain(values) => {
                    for (word, value) in target.zip(&values[row * inputs..][..inputs]) {
                        *word = u32::from(*value) << 16;
                    }
                }
            }
        }
        Ok(Self { words: words.into(), inputs, outputs, brain })
    }

    /// Where its words lie.
    pub(crate) fn memory(&mut self) -> &mut Shared {
        &mut self.words
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        self.words.words().len() * 4
    }

    /// Outputs, rounded up to a whole panel.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = x W` or `out += x W` for `rows` rows; row r of `x` starts at `r * x_stride`, that of `out` at
    /// `r * outputs()`. After each block of outputs `then(row, first column, block)` may use the result while it is
    /// in the cache.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn multiply(
        &self,
        pool: &mut Pool,
        (isa, compute): (Isa, ComputeType),
        (x, x_stride): (&[f32], usize),
        rows: usize,
        out: &mut [f32],
        store: Store,
        then: &(dyn Fn(usize, usize, &[f32]) + Sync),
    ) {
        if rows == 0 {
            return;
        }
        assert!(x.len() >= (rows - 1) * x_stride + self.inputs && x_stride >= self.inputs);
        assert!(out.len() >= rows * self.outputs);
        let pairs = self.brain && compute == ComputeType::Bfloat16;
        ROUNDED.with_borrow_mut(|rounded| {
            let (x, x_stride) = if pairs {
                rounded.resize(rounded.len().max(rows * self.inputs / 2), 0);
                round_rows(pool, isa, (x, x_stride), rows, self.inputs, rounded);
                (bytemuck::cast_slice(rounded), self.inputs / 2)
            } else {
                (x, x_stride)
            };
            self.run(pool, isa, (x, x_stride, pairs), rows, out, store, then);
        });
    }

    /// `multiply`, with inputs as floats, or as words with a pair each.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        pool: &mut Pool,
        isa: Isa,
        (x, x_stride, pairs): (&[f32], usize, bool),
        rows: usize,
        out: &mut [f32],
        store: Store,
        then: &(dyn Fn(usize, usize, &[f32]) + Sync),
    ) {
        let groups = self.outputs.div_ceil(GROUP * PANEL);
        let blocks = rows.div_ceil(ROWS_PER_TASK);
        let steps = if self.brain { self.inputs / 2 } else { self.inputs };
        let words = self.words.words();
        let out = Disjoint::new(&mut out[..rows * self.outputs]);
        let task = |index: usize| {
            let (group, block) = (index / blocks, index % blocks);
            let first = block * ROWS_PER_TASK;
            let count = ROWS_PER_TASK.min(rows - first);
            let column = group * GROUP * PANEL;
            let width = (GROUP * PANEL).min(self.outputs - column);
            let part = Part {
                x: x[first * x_stride..].as_ptr(),
                x_stride,
                rows: count,
                weights: words[column * steps..][..width * steps].as_ptr(),
                steps,
                panels: width / PANEL,
                out: out.pointer().wrapping_add(first * self.outputs + column),
                out_stride: self.outputs,
                add: store == Store::Add,
            };
            // SAFETY: `multiply` asserted the rows of `x` and `out`; no other task writes these rows and columns.
            unsafe {
                if pairs {
                    product_of_pairs(isa, part);
                } else {
                    product(isa, part, self.brain);
                }
            }
            for row in first..first + count {
                // SAFETY: this task's own part, written above.
                then(row, column, unsafe { out.part(row * self.outputs + column, width) });
            }
        };
        if rows * self.inputs * self.outputs < SERIAL {
            (0..groups * blocks).for_each(task);
        } else {
            pool.run(groups * blocks, &task);
        }
    }
}

/// Some rows times a group of panels.
#[derive(Clone, Copy)]
struct Part {
    x: *const f32,
    x_stride: usize,
    rows: usize,
    weights: *const u32,
    steps: usize,
    panels: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
}

dispatch! {
    product = product_body(part: Part, brain: bool)
}

dispatch! {
    pairs product_of_pairs = product_of_pairs_body(part: Part)
}

/// # Safety
/// As `Part::run`.
#[inline(always)]
unsafe fn product_body<L: Lanes>(part: Part, brain: bool) {
    // SAFETY: passed on to the caller.
    unsafe { if brain { part.run::<L, WIDENED>() } else { part.run::<L, FLOATS>() } }
}

/// # Safety
/// As `Part::run`.
#[inline(always)]
unsafe fn product_of_pairs_body<L: Lanes>(part: Part) {
    // SAFETY: passed on to the caller.
    unsafe { part.run::<L, PAIRS>() }
}

impl Part {
    /// # Safety
    /// `x`, `weights` and `out` hold the rows and panels, of the kind; `out` is the caller's alone.
    #[inline(always)]
    unsafe fn run<L: Lanes, const KIND: u8>(self) {
        let most = L::ACCUMULATORS.min(6);
        let blocks = self.rows.div_ceil(most);
        let mut row = 0;
        for block in 0..blocks {
            // Even blocks: eight rows are four and four, not six and two.
            let height = (self.rows - row).div_ceil(blocks - block);
            let mut panel = 0;
            while panel < self.panels {
                let fit = (L::ACCUMULATORS / height).min(self.panels - panel);
                let wide = if fit >= 4 { 4 } else { fit.min(2) };
                // SAFETY: rows `row..row + height` and panels `panel..panel + wide` exist by the caller's promise.
                unsafe {
                    let tile = Tile {
                        x: self.x.add(row * self.x_stride),
                        x_stride: self.x_stride,
                        weights: self.weights.add(panel * PANEL * self.steps),
                        stride: PANEL * self.steps,
                        steps: self.steps,
                        out: self.out.add(row * self.out_stride + panel * PANEL),
                        out_stride: self.out_stride,
                        add: self.add,
                    };
                    match height {
                        1 => tile.run_wide::<L, 1, KIND>(wide),
                        2 => tile.run_wide::<L, 2, KIND>(wide),
                        3 => tile.run_wide::<L, 3, KIND>(wide),
                        4 => tile.run_wide::<L, 4, KIND>(wide),
                        5 => tile.run_wide::<L, 5, KIND>(wide),
                        _ => tile.run_wide::<L, 6, KIND>(wide),
                    }
                }
                panel += wide;
            }
            row += height;
        }
    }
}

/// A few rows times a few panels, the sums held in registers.
struct Tile {
    x: *const f32,
    x_stride: usize,
    weights: *const u32,
    /// Words between two panels.
    stride: usize,
    steps: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
}

impl Tile {
    /// # Safety
    /// The tile lies inside its three operands, which are of the kind.
    #[inline(always)]
    unsafe fn run_wide<L: Lanes, const R: usize, const KIND: u8>(&self, wide: usize) {
        // SAFETY: passed on to the caller. The guards drop tiles that a set's registers cannot hold.
        unsafe {
            match wide {
                4 if R * 4 <= L::ACCUMULATORS => self.run::<L, R, 4, KIND>(),
                2 if R * 2 <= L::ACCUMULATORS => self.run::<L, R, 2, KIND>(),
                _ => self.run::<L, R, 1, KIND>(),
            }
        }
    }

    /// # Safety
    /// As `run_wide`.
    #[inline(always)]
    unsafe fn run<L: Lanes, const R: usize, const P: usize, const KIND: u8>(&self) {
        /// Words ahead: four thousand bytes of a panel hide the latency of the memory.
        const AHEAD: usize = 1024;
        // SAFETY: passed on to the caller; a prefetch may point anywhere.
        unsafe {
            let mut sums = [[L::splat(0.0); P]; R];
            let mut weights = self.weights;
            for step in 0..self.steps {
                if KIND == PAIRS {
                    for panel in 0..P {
                        L::prefetch(weights.add(panel * self.stride).wrapping_add(AHEAD).cast());
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let pair = (*self.x.add(row * self.x_stride + step)).to_bits();
                        for (panel, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.dot(weights.add(panel * self.stride), pair);
                        }
                    }
                } else if KIND == WIDENED {
                    let mut low = [L::splat(0.0); P];
                    let mut high = [L::splat(0.0); P];
                    for panel in 0..P {
                        let at = weights.add(panel * self.stride);
                        L::prefetch(at.wrapping_add(AHEAD).cast());
                        (low[panel], high[panel]) = L::bf16_pairs(at);
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let at = self.x.add(row * self.x_stride + 2 * step);
                        let (even, odd) = (L::splat(*at), L::splat(*at.add(1)));
                        for panel in 0..P {
                            sums[panel] = even.fma(low[panel], sums[panel]);
                            sums[panel] = odd.fma(high[panel], sums[panel]);
                        }
                    }
                } else {
                    let mut loaded = [L::splat(0.0); P];
                    for (panel, loaded) in loaded.iter_mut().enumerate() {
                        let at = weights.add(panel * self.stride);
                        L::prefetch(at.wrapping_add(AHEAD).cast());
                        *loaded = L::load(at.cast());
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let value = L::splat(*self.x.add(row * self.x_stride + step));
                        for panel in 0..P {
                            sums[panel] = value.fma(loaded[panel], sums[panel]);
                        }
                    }
                }
                weights = weights.add(PANEL);
            }
            for (row, sums) in sums.iter().enumerate() {
                for (panel, sum) in sums.iter().enumerate() {
                    let at = self.out.add(row * self.out_stride + panel * PANEL);
                    let sum = if self.add { L::load(at).add(*sum) } else { *sum };
                    sum.store(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
