//! The forward pass: a batch of rows in, logits out.
//!
//! A row is one token at one position of one sequence. Within each layer all rows first write their keys and values,
//! then the copies of shared pages run, then all rows attend: so a row may rely on whatever an earlier row of the same
//! batch writes, be it of its own prompt or of a prompt it shares. In the last layer only sampled rows attend: of the
//! others nothing but their keys and values is ever read.

use std::cell::RefCell;

use crate::attention::attend;
use crate::brain::ComputeType;
use crate::cache::PAGE;
use crate::config::Config;
use crate::kernels::{rms_norm, silu_mul};
use crate::matrix::{PANEL, Store};
use crate::pool::{Disjoint, Pool};
use crate::rope;
use crate::simd::Isa;
use crate::slab::Slab;
use crate::weights::Weights;

/// Rows below which the operations between products run on one thread.
const FEW_ROWS: usize = 8;
/// Attended floats (rows times positions times width) below which attention runs on one thread.
const SERIAL_ATTENTION: usize = 1 << 15;

/// One token to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) token: u32,
    pub(crate) position: u32,
    /// Where the sequence's pages start in `Batch::tables`.
    pub(crate) table: u32,
    /// Whether the logits after this token are wanted.
    pub(crate) sampled: bool,
}

/// The first `count` tokens of a page, wanted in another page too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) count: usize,
}

/// What one step computes. Rows of one sequence are in order of position and hold every position that the cache lacks.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    pub(crate) tables: Vec<u32>,
    pub(crate) copies: Vec<PageCopy>,
    /// All pages fit into the processor's cache beside the weights.
    pub(crate) near: bool,
}

/// A model and the memory of its cache.
pub(crate) struct Llama {
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    slab: Slab,
    pool: Pool,
    isa: Isa,
    compute: ComputeType,
    frequencies: Vec<f32>,
    buffers: Buffers,
}

/// Activations, one row of padded width per row of the batch.
#[derive(Default)]
struct Buffers {
    residual: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    /// Cosines, then sines, of each row's rotation.
    rotation: Vec<f32>,
    logits: Vec<f32>,
}

impl Llama {
    pub(crate) fn new(
        config: Config,
        weights: Weights,
        slab: Slab,
        pool: Pool,
        (isa, compute): (Isa, ComputeType),
    ) -> Self {
        let frequencies = config.rope.frequencies(config.head_dim);
        Self { config, weights, slab, pool, isa, compute, frequencies, buffers: Buffers::default() }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Computes the batch. Returns the logits of the sampled rows, in order, and the floats from one to the next;
    /// those past the vocabulary are padding.
    pub(crate) fn forward(&mut self, batch: &Batch) -> (&mut [f32], usize) {
        let Self { config, weights, slab, pool, isa, compute, frequencies, buffers } = self;
        let isa = *isa;
        let how = (isa, *compute);
        let mut rows = batch.rows.len();
        let sampled: Vec<usize> = (0..rows).filter(|row| batch.rows[*row].sampled).collect();
        let sampled_rows: Vec<Row> = sampled.iter().map(|row| batch.rows[*row]).collect();
        let mut attending = &batch.rows;
        let width = config.hidden_size.next_multiple_of(PANEL);
        let inner = config.intermediate_size.next_multiple_of(PANEL);
        let queries = config.heads * config.head_dim;
        let attended = queries.next_multiple_of(PANEL);
        let eps = config.rms_norm_eps;
        let nothing = |_: usize, _: usize, _: &[f32]| {};

        let Buffers {
            residual,
            normed,
            qkv: qkv_buffer,
            attended: attended_buffer,
            gate_up: gate_up_buffer,
            inner: inner_buffer,
            rotation,
            logits,
        } = buffers;
        let mut residual = sized(residual, rows * width);
        let mut normed = sized(normed, rows * width);
        let rotation = sized(rotation, rows * config.head_dim);
        for (row, out) in batch.rows.iter().zip(residual.chunks_exact_mut(width)) {
            weights.embed(row.token, out);
        }
        for (row, out) in batch.rows.iter().zip(rotation.chunks_exact_mut(config.head_dim)) {
            rope::rotation(frequencies, row.position, out);
        }
        for (index, layer) in weights.layers.iter().enumerate() {
            norm_rows(pool, isa, residual, &layer.attention_norm, config.hidden_size, eps, normed);
            let stride = layer.qkv.outputs();
            let qkv = sized(qkv_buffer, rows * stride);
            layer.qkv.multiply(pool, how, (normed, width), rows, qkv, Store::Set, &nothing);
            {
                let parts = Disjoint::new(qkv);
                each_row(pool, rows, &|row| {
                    // SAFETY: a row is one task's alone, and its slot of the cache belongs to this row alone.
                    unsafe {
                        let qkv = parts.part(row * stride, stride);
                        layer.attention_input.apply(&mut qkv[..queries + 2 * config.kv_width()], eps);
                        let rotation = &rotation[row * config.head_dim..][..config.head_dim];
                        rope::rotate(rotation, &mut qkv[..queries + config.kv_width()]);
                        let position = batch.rows[row].position as usize;
                        let page = batch.tables[batch.rows[row].table as usize + position / PAGE];
                        let (keys, values) = qkv[queries..].split_at(config.kv_width());
                        slab.put(index, page, position % PAGE, keys, &values[..config.kv_width()]);
                    }
                });
            }
            for copy in &batch.copies {
                // SAFETY: no task runs.
                unsafe { slab.copy(index, copy.from, copy.to, copy.count) };
            }
            if index + 1 == weights.layers.len() {
                attending = &sampled_rows;
                gather(residual, width, &sampled);
                gather(qkv, stride, &sampled);
                rows = sampled.len();
                residual = &mut residual[..rows * width];
                normed = &mut normed[..rows * width];
            }
            let out = sized(attended_buffer, rows * attended);
            attend_rows(pool, how, config, slab, (attending, batch), index, (qkv, stride), (out, attended));
            layer.output.multiply(pool, how, (out, attended), rows, residual, Store::Add, &nothing);
            norm_rows(pool, isa, residual, &layer.mlp_norm, config.hidden_size, eps, normed);
            let gate_up = sized(gate_up_buffer, rows * layer.gate_up.outputs());
            let activated = sized(inner_buffer, rows * inner);
            {
                let parts = Disjoint::new(activated);
                let activate = |row: usize, column: usize, block: &[f32]| {
                    // SAFETY: the block is one task's alone, and so is what it becomes.
                    let out = unsafe { parts.part(row * inner + column / 2, block.len() / 2) };
                    silu_mul(isa, block, out);
                };
                layer.gate_up.multiply(pool, how, (normed, width), rows, gate_up, Store::Set, &activate);
            }
            layer.down.multiply(pool, how, (activated, inner), rows, residual, Store::Add, &nothing);
        }
        norm_rows(pool, isa, residual, &weights.norm, config.hidden_size, eps, normed);
        let stride = weights.head.outputs();
        let logits = sized(logits, rows * stride);
        weights.head.multiply(pool, how, (normed, width), rows, logits, Store::Set, &nothing);
        (logits, stride)
    }
}

/// The first `len` floats of a buffer that grows as needed; new ones are zero, old ones stale.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Moves the chosen rows, in ascending order, to the front.
fn gather(buffer: &mut [f32], stride: usize, chosen: &[usize]) {
    for (to, from) in chosen.iter().enumerate() {
        buffer.copy_within(from * stride..(from + 1) * stride, to * stride);
    }
}

/// Calls `call` for each row, on all threads if there are enough rows.
fn each_row(pool: &mut Pool, rows: usize, call: &(dyn Fn(usize) + Sync)) {
    if rows < FEW_ROWS {
        (0..rows).for_each(call);
    } else {
        let tasks = rows.div_ceil(FEW_ROWS);
        pool.run(tasks, &|task| {
            (task * FEW_ROWS..rows.min((task + 1) * FEW_ROWS)).for_each(call);
        });
    }
}

fn norm_rows(pool: &mut Pool, isa: Isa, x: &[f32], weight: &[f32], width: usize, eps: f32, out: &mut [f32]) {
    let stride = weight.len();
    let rows = x.len() / stride;
    let parts = Disjoint::new(out);
    each_row(pool, rows, &|row| {
        // SAFETY: a row is one task's alone.
        let out = unsafe { parts.part(row * stride, stride) };
        rms_norm(isa, &x[row * stride..][..stride], weight, width, eps, out);
    });
}

thread_local! {
    /// Scores of two queries and, after them, the padded results of all that share a head of keys.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[allow(clippy::too_many_arguments)]
fn attend_rows(
    pool: &mut Pool,
    how: (Isa, ComputeType),
    config: &Config,
    slab: &Slab,
    (rows, batch): (&[Row], &Batch),
    layer: usize,
    (qkv, qkv_stride): (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
) {
    let group = config.heads / config.kv_heads;
    let dimension = config.head_dim;
    let padded = dimension.next_multiple_of(16);
    let parts = Disjoint::new(out);
    // Head by head, row by row: rows that share a prefix find its keys in the cache of the processor.
    let chunk = (rows.len() * config.kv_heads / (8 * pool.threads())).clamp(1, 16);
    let chunks = rows.len().div_ceil(chunk);
    let task = |task: usize| {
        SCRATCH.with_borrow_mut(|scratch| {
            let kv_head = task / chunks;
            for index in task % chunks * chunk..rows.len().min((task % chunks + 1) * chunk) {
                let row = rows[index];
                let len = row.position as usize + 1;
                let table = &batch.tables[row.table as usize..][..len.div_ceil(PAGE)];
                let scores = 2 * table.len() * PAGE;
                scratch.resize(scores + group * padded, 0.0);
                let (scores, results) = scratch.split_at_mut(scores);
                let first = kv_head * group;
                let queries = &qkv[index * qkv_stride + first * dimension..][..group * dimension];
                // SAFETY: the table's pages belong to the sequence and all their slots below `len` are written; scratch
                // is as long as asked; these heads' part of the output is this task's alone.
                unsafe {
                    let pages = slab.head(layer, kv_head);
                    let (scores, out) = (scores.as_mut_ptr(), results.as_mut_ptr());
                    attend(how, queries.as_ptr(), group, pages, table, len, batch.near, scores, out);
                    let part = parts.part(index * out_stride + first * dimension, group * dimension);
                    for (out, result) in part.chunks_exact_mut(dimension).zip(results.chunks_exact(padded)) {
                        out.copy_from_slice(&result[..dimension]);
                    }
                }
            }
        });
    };
    let attended: usize = rows.iter().map(|row| row.position as usize + 1).sum();
    if attended * config.heads * dimension < SERIAL_ATTENTION {
        (0..config.kv_heads * chunks).for_each(task);
    } else {
        pool.run(config.kv_heads * chunks, &task);
    }
}
