//! The matrix product alone, for the benchmark that compares it with other crates. Not part of the interface.

use crate::brain::ComputeType;
use crate::matrix::{Matrix, Store, Values};
use crate::pool::Pool;
use crate::simd::Isa;

/// Packed matrices of one shape and the threads to multiply with them.
pub struct Product {
    pool: Pool,
    matrices: Vec<Matrix>,
    inputs: usize,
}

impl Product {
    /// Packs row-major `outputs` by `inputs` matrices, in float32 or cut down to bfloat16.
    pub fn new(threads: usize, inputs: usize, outputs: usize, raw: &[Vec<f32>], brain: bool) -> Self {
        let matrices = raw.iter().map(|values| {
            let cut: Vec<u16> = values.iter().map(|value| (value.to_bits() >> 16) as u16).collect();
            let values = if brain { Values::Brain(&cut) } else { Values::Float(values) };
            let rows: Vec<_> = (0..outputs).map(|row| Some((values, row))).collect();
            Matrix::pack(inputs, &rows).expect("memory")
        });
        Self { matrices: matrices.collect(), pool: Pool::new(threads).expect("threads"), inputs }
    }

    /// Multiplies `rows` rows with one of the matrices.
    pub fn run(&mut self, matrix: usize, x: &[f32], rows: usize, out: &mut [f32]) {
        let x = (x, self.inputs);
        let how = (Isa::detect(), ComputeType::Float32);
        self.matrices[matrix].multiply(&mut self.pool, how, x, rows, out, Store::Set, &|_, _, _| {});
    }
}
