//! Attention against plain arithmetic.

use super::*;
use crate::config::{Config, Family};
use crate::rope::Rope;
use crate::slab::Slab;

/// As many heads of keys as are told, each with its query heads.
fn shape(head_dim: usize, queries: usize, kv_heads: usize) -> Config {
    Config {
        family: Family::Llama,
        vocab_size: 1,
        hidden_size: head_dim,
        intermediate_size: 1,
        layers: 2,
        heads: queries * kv_heads,
        kv_heads,
        head_dim,
        context_length: 112,
        rope: Rope { theta: 1.0, scaling: None },
        rms_norm_eps: 0.0,
        tied_embeddings: true,
    }
}

#[test]
fn attention_agrees_with_plain_arithmetic_on_every_set() {
    let number = |at: usize, salt: usize| ((at * 7919 + salt * 104_729) % 257) as f32 / 64.0 - 2.0;
    for (dimension, heads) in [(6, 1), (16, 2), (24, 3), (32, 1), (64, 1), (64, 2), (80, 5)] {
        let config = shape(dimension, heads, 3);
        let table = [33, 2, 39, 0, 17, 18, 19];
        // Multiples of 1/64, 1/128 or 1/256, of which the largest of a head is the 127th: exact in each type.
        let row = |token: usize, salt: usize| -> Vec<f32> {
            let most = 127.0 / 64.0;
            let whole = |at: usize| if at.is_multiple_of(dimension) { most } else { number(token * 1000 + at, salt) };
            let part = [1.0, 0.5, 0.25][(token + salt) % 3];
            (0..3 * dimension).map(|at| whole(at).clamp(-most, most) * part).collect()
        };
        let queries: Vec<f32> = (0..heads * dimension).map(|at| number(at, 3)).collect();
        for kind in [CacheType::Int8, CacheType::Bfloat16, CacheType::Float32] {
            let slab = Slab::new(&config, kind, 40).unwrap();
            for token in 0..112 {
                // SAFETY: one thread.
                unsafe { slab.put(1, table[token / PAGE], token % PAGE, &row(token, 1), &row(token, 2)) };
            }
            for (isa, len, near, (compute, most)) in Isa::available()
                .into_iter()
                .flat_map(|isa| [1, 2, 15, 16, 17, 33, 40, 64, 111, 112].map(|len| (isa, len)))
                .flat_map(|(isa, len)| [false, true].map(|near| (isa, len, near)))
                // Queries are exact in bfloat16; weights are within a 512th, of values of at most two.
                .flat_map(|(isa, len, near)| {
                    [(ComputeType::Float32, 1e-5), (ComputeType::Bfloat16, 4e-3)].map(|how| (isa, len, near, how))
                })
            {
                let padded = dimension.next_multiple_of(16);
                let mut scores = vec![0.0; 2 * 112];
                let mut out = vec![0.0; heads * padded];
                // SAFETY: all tokens are written, the buffers long enough.
                unsafe {
                    let pages = slab.head(1, 2);
                    let (scores, out) = (scores.as_mut_ptr(), out.as_mut_ptr());
                    attend((isa, compute), queries.as_ptr(), heads, pages, &table, len, near, scores, out);
                }
                for (query, out) in queries.chunks(dimension).zip(out.chunks(padded)) {
                    let expected = plain(query, len, |token, salt| row(token, salt)[2 * dimension..].to_vec());
                    for (out, expected) in out.iter().zip(&expected) {
                        let gap = (f64::from(*out) - expected).abs();
                        assert!(gap < most, "{isa:?} {kind:?} {compute:?} {dimension} {len}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_lies_beyond_a_sequence_is_not_seen() {
    let config = shape(16, 1, 1);
    for kind in [CacheType::Int8, CacheType::Bfloat16, CacheType::Float32] {
        for len in 1..32 {
            let slab = Slab::new(&config, kind, 3).unwrap();
            for token in 0..32 {
                let value = if token < len { token as f32 / 8.0 } else { f32::NAN };
                // SAFETY: one thread.
                unsafe { slab.put(0, token / 16, token as usize % PAGE, &[value; 16], &[value; 16]) };
            }
            // A page whose first tokens are another's.
            let count = (len as usize - 1) % PAGE + 1;
            // SAFETY: one thread.
            unsafe {
                slab.put(0, 2, PAGE - 1, &[f32::NAN; 16], &[f32::NAN; 16]);
                slab.copy(0, (len - 1) / 16, 2, count);
            }
            let table = if len > 16 { [0, 2] } else { [2, 1] };
            let computed = [(ComputeType::Float32, 1e-5), (ComputeType::Bfloat16, 2e-2)];
            for (isa, (compute, most)) in Isa::available().into_iter().flat_map(|isa| computed.map(|how| (isa, how))) {
                let (mut scores, mut out) = (vec![0.0; 64], vec![0.0; 16]);
                // SAFETY: the first `len` tokens are written, the buffers long enough.
                unsafe {
                    let (query, pages) = ([0.125; 16], slab.head(0, 0));
                    let (scores, out) = (scores.as_mut_ptr(), out.as_mut_ptr());
                    attend((isa, compute), query.as_ptr(), 1, pages, &table, len as usize, true, scores, out);
                }
                let expected = plain(&[0.125; 16], len as usize, |token, _| vec![token as f32 / 8.0; 16]);
                for (out, expected) in out.iter().zip(&expected) {
                    assert!((f64::from(*out) - expected).abs() < most, "{isa:?} {kind:?} {compute:?} {len}");
                }
            }
        }
    }
}

/// The same in float64, the obvious way; `row(token, 1)` are keys, `row(token, 2)` values.
fn plain(query: &[f32], len: usize, row: impl Fn(usize, usize) -> Vec<f32>) -> Vec<f64> {
    let dot = |keys: Vec<f32>| -> f64 { keys.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let scale = (query.len() as f64).sqrt();
    let weights: Vec<f64> = (0..len).map(|token| (dot(row(token, 1)) / scale).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; query.len()];
    for (token, weight) in weights.iter().enumerate() {
        for (out, value) in out.iter_mut().zip(row(token, 2)) {
            *out += weight / total * f64::from(value);
        }
    }
    out
}
