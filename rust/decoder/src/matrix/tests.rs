//! Products against plain arithmetic.

use super::*;

fn numbers(len: usize, salt: usize) -> Vec<f32> {
    (0..len).map(|index| ((index * 7919 + salt * 104_729) % 257) as f32 / 128.0 - 1.0).collect()
}

#[test]
fn products_are_right_and_rows_independent_on_every_set() {
    for (inputs, outputs) in [(5, 3), (32, 16), (33, 100), (64, 256), (130, 200)] {
        // Multiples of 1/128 up to one: exact in bfloat16.
        let raw = numbers(inputs * outputs, 1);
        let cut: Vec<u16> = raw.iter().map(|value| (value.to_bits() >> 16) as u16).collect();
        for values in [Values::Float(&raw), Values::Brain(&cut)] {
            let packed: Vec<_> = (0..outputs).map(|row| Some((values, row))).collect();
            let matrix = Matrix::pack(inputs, &packed).unwrap();
            for isa in Isa::available() {
                for compute in [ComputeType::Float32, ComputeType::Bfloat16] {
                    check(&matrix, (isa, compute), inputs, outputs, &raw);
                }
            }
        }
    }
}

fn check(matrix: &Matrix, isa: (Isa, ComputeType), inputs: usize, outputs: usize, raw: &[f32]) {
    let mut pool = Pool::new(2).unwrap();
    let stride = matrix.outputs();
    let x = numbers(100 * inputs, 2);
    let mut product = |first: usize, rows: usize, store: Store| {
        let mut out = vec![1.0; rows * stride];
        matrix.multiply(&mut pool, isa, (&x[first * inputs..], inputs), rows, &mut out, store, &|_, _, _| {});
        out
    };
    let all = product(0, 100, Store::Set);
    for row in 0..100 {
        for output in 0..outputs {
            let expected: f64 = (0..inputs)
                .map(|input| f64::from(x[row * inputs + input]) * f64::from(raw[output * inputs + input]))
                .sum();
            assert!((f64::from(all[row * stride + output]) - expected).abs() < 1e-4, "{isa:?}");
        }
    }
    for (first, rows) in [(0, 1), (3, 2), (40, 3), (7, 5), (93, 7), (20, 13), (1, 60)] {
        assert_eq!(product(first, rows, Store::Set), all[first * stride..(first + rows) * stride], "{isa:?}");
    }
    let added = product(0, 4, Store::Add);
    assert!(added.iter().zip(&all).all(|(added, set)| *added == 1.0 + set));
}
