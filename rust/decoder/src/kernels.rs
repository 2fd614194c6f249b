//! The row operations between matrix products. Rows are padded with zeros to whole vectors of sixteen floats; each
//! reduction has one fixed order.

use crate::simd::{Isa, Lanes, dispatch, exp, reduce};

/// `out = x / rms(x) * weight`, the mean over the first `width` values (those after are zero).
pub(crate) fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], width: usize, eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len() && x.len().is_multiple_of(16));
    // SAFETY: three slices of `x.len()` floats, whole vectors.
    unsafe {
        rms_norm_kernel(isa, x.as_ptr(), weight.as_ptr(), x.len(), width, eps, out.as_mut_ptr());
    }
}

dispatch! {
    rms_norm_kernel = rms_norm_body(
        x: *const f32, weight: *const f32, padded: usize, width: usize, eps: f32, out: *mut f32,
    )
}

/// # Safety
/// The three pointers hold `padded` floats, a multiple of sixteen.
#[inline(always)]
unsafe fn rms_norm_body<L: Lanes>(
    x: *const f32,
    weight: *const f32,
    padded: usize,
    width: usize,
    eps: f32,
    out: *mut f32,
) {
    // SAFETY: every offset is a multiple of sixteen below `padded`.
    unsafe {
        let mut squares = L::splat(0.0);
        for at in (0..padded).step_by(16) {
            let value = L::load(x.add(at));
            squares = value.fma(value, squares);
        }
        let mean = reduce(squares, |a, b| a + b) / width as f32;
        let scale = L::splat(1.0 / (mean + eps).sqrt());
        for at in (0..padded).step_by(16) {
            let value = L::load(x.add(at)).mul(scale);
            L::load(weight.add(at)).mul(value).store(out.add(at));
        }
    }
}

/// `out = silu(gate) * up`; `gate_up` alternates sixteen gates and sixteen ups.
pub(crate) fn silu_mul(isa: Isa, gate_up: &[f32], out: &mut [f32]) {
    assert!(gate_up.len() == 2 * out.len() && out.len().is_multiple_of(16));
    // SAFETY: `out` is whole vectors, `gate_up` twice as many.
    unsafe { silu_mul_kernel(isa, gate_up.as_ptr(), out.len(), out.as_mut_ptr()) }
}

dispatch! {
    silu_mul_kernel = silu_mul_body(gate_up: *const f32, len: usize, out: *mut f32)
}

/// # Safety
/// `out` holds `len` floats, a multiple of sixteen, `gate_up` twice as many.
#[inline(always)]
unsafe fn silu_mul_body<L: Lanes>(gate_up: *const f32, len: usize, out: *mut f32) {
    // SAFETY: every offset is a multiple of sixteen inside its operand.
    unsafe {
        for at in (0..len).step_by(16) {
            let gate = L::load(gate_up.add(2 * at));
            let up = L::load(gate_up.add(2 * at + 16));
            let denominator = exp(gate.mul(L::splat(-1.0))).add(L::splat(1.0));
            gate.div(denominator).mul(up).store(out.add(at));
        }
    }
}

/// `values = exp((values - shift) * scale)`; whole vectors.
pub(crate) fn exp_shifted(isa: Isa, values: &mut [f32], shift: f32, scale: f32) {
    assert!(values.len().is_multiple_of(16));
    // SAFETY: whole vectors.
    unsafe { exp_shifted_kernel(isa, values.as_mut_ptr(), values.len(), shift, scale) }
}

dispatch! {
    exp_shifted_kernel = exp_shifted_body(values: *mut f32, len: usize, shift: f32, scale: f32)
}

/// # Safety
/// `values` holds `len` floats, a multiple of sixteen.
#[inline(always)]
unsafe fn exp_shifted_body<L: Lanes>(values: *mut f32, len: usize, shift: f32, scale: f32) {
    // SAFETY: every offset is a multiple of sixteen below `len`.
    unsafe {
        for at in (0..len).step_by(16) {
            let value = L::load(values.add(at)).add(L::splat(-shift));
            exp(value.mul(L::splat(scale))).store(values.add(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree_with_plain_arithmetic_on_every_set() {
        let x: Vec<f32> = (0..48).map(|i| ((i * 37 % 41) as f32 - 20.0) / 3.0).collect();
        let weight: Vec<f32> = (0..48).map(|i| 1.0 + i as f32 / 48.0).collect();
        let mean = x.iter().map(|v| f64::from(v * v)).sum::<f64>() / 48.0;
        for isa in Isa::available() {
            let mut out = vec![0.0; 48];
            rms_norm(isa, &x, &weight, 48, 1e-6, &mut out);
            for (out, (x, weight)) in out.iter().zip(x.iter().zip(&weight)) {
                let expected = f64::from(x * weight) / (mean + 1e-6).sqrt();
                assert!((f64::from(*out) - expected).abs() < 1e-5);
            }
            let gate_up: Vec<f32> = x.iter().chain(&weight).copied().collect();
            silu_mul(isa, &gate_up, &mut out);
            for (i, out) in out.iter().enumerate() {
                let at = i / 16 * 32 + i % 16;
                let (gate, up) = (f64::from(gate_up[at]), f64::from(gate_up[at + 16]));
                let expected = gate / (1.0 + (-gate).exp()) * up;
                assert!((f64::from(*out) - expected).abs() < 1e-5, "{isa:?} {i}");
            }
            let mut values: Vec<f32> = (0..1600).map(|i| i as f32 * -0.05).collect();
            exp_shifted(isa, &mut values, 0.5, 1.0);
            for (i, value) in values.iter().enumerate() {
                let expected = f64::from(i as f32 * -0.05 - 0.5).exp();
                assert!((f64::from(*value) / expected - 1.0).abs() < 5e-7, "{isa:?} {i}");
            }
        }
    }
}
