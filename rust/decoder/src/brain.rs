//! Bfloat16, two numbers a word, low half first.

use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Lanes, dispatch};

/// Numbers below which handing out tasks costs more than it saves.
const SERIAL: usize = 1 << 17;

/// What numbers are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeType {
    /// Weights, keys and values of either type are widened.
    Float32,
    /// What meets weights, keys or values of bfloat16 is rounded to it, what meets those in bytes to int16, and two
    /// products and their sum, in float32 or int32, are one instruction. Float32 for what is float32, and where the
    /// processor has no such instructions.
    Bfloat16,
}

/// The bits of the nearest bfloat16, of two the even one; what is not a number stays so.
pub(crate) fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Writes `rows` rows of `width` numbers, an even number, as words; row r of `x` starts at `r * stride`.
pub(crate) fn round_rows(
    pool: &mut Pool,
    isa: Isa,
    (x, stride): (&[f32], usize),
    rows: usize,
    width: usize,
    out: &mut [u32],
) {
    assert!(rows > 0 && width.is_multiple_of(2) && x.len() >= (rows - 1) * stride + width);
    assert!(out.len() >= rows * width / 2);
    let parts = Disjoint::new(out);
    let task = |row: usize| {
        // SAFETY: `x` holds the row by the first assertion, `out` by the second, and a row is one task's alone.
        unsafe {
            let out = parts.part(row * width / 2, width / 2);
            round_kernel(isa, x.as_ptr().add(row * stride), width, out.as_mut_ptr());
        }
    };
    if rows * width < SERIAL {
        (0..rows).for_each(task);
    } else {
        pool.run(rows, &task);
    }
}

dispatch! {
    pairs round_kernel = round_body(from: *const f32, len: usize, to: *mut u32)
}

/// `dispatch!` it as one of `pairs`.
///
/// # Safety
/// `from` holds `len` floats, an even number, and `to` half as many words.
#[inline(always)]
pub(crate) unsafe fn round_body<L: Lanes>(from: *const f32, len: usize, to: *mut u32) {
    let whole = len - len % 16;
    // SAFETY: every offset is inside its operand by the contract.
    unsafe {
        for at in (0..whole).step_by(16) {
            L::load(from.add(at)).store_bf16(to.add(at / 2));
        }
        for at in (whole..len).step_by(2) {
            *to.add(at / 2) = u32::from(nearest(*from.add(at))) | u32::from(nearest(*from.add(at + 1))) << 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_bfloat16_is_kept() {
        for (value, expected) in
            [(1.0, 1.0), (1.003, 1.0), (1.006, 1.007_812_5), (-3.0, -3.0), (f32::MAX, f32::INFINITY)]
        {
            assert_eq!(f32::from_bits(u32::from(nearest(value)) << 16), expected);
        }
        // Halfway between two: 1 + 1/256 goes down to the even one, 1 + 3/256 up to it.
        assert_eq!(nearest(1.0 + 1.0 / 256.0), 0x3f80);
        assert_eq!(nearest(1.0 + 3.0 / 256.0), 0x3f82);
        for value in [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0] {
            assert_eq!(u32::from(nearest(value)) << 16, value.to_bits());
        }
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001_u32] {
            assert!(f32::from_bits(u32::from(nearest(f32::from_bits(bits))) << 16).is_nan());
        }
    }

    #[test]
    fn rows_are_rounded_alike_on_every_set() {
        let numbers: Vec<f32> = (0..70 * 5).map(|at| ((at * 7919) % 1009) as f32 / 77.0 - 6.5).collect();
        let mut pool = Pool::new(2).unwrap();
        for width in [2, 14, 16, 38, 70] {
            for isa in Isa::available() {
                let mut words = vec![0; 5 * width / 2];
                round_rows(&mut pool, isa, (&numbers, 70), 5, width, &mut words);
                for (row, words) in words.chunks(width / 2).enumerate() {
                    for (at, number) in numbers[row * 70..][..width].iter().enumerate() {
                        assert_eq!((words[at / 2] >> (at % 2 * 16)) as u16, nearest(*number), "{isa:?} {width}");
                    }
                }
            }
        }
    }
}
