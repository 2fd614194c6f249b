//! Counter-based randomness: draw k of item i of stream s under a seed is a pure function of (seed, s, i, k), so any item
//! can be made by any worker at any time and comes out the same.

/// The increment of SplitMix64.
pub const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// Finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of random numbers: SplitMix64 started at a hash of its key.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of one item. `stream` keeps uses of one seed apart.
    pub fn new(seed: u64, stream: u64, item: u64) -> Random {
        let mut state = mix(seed.wrapping_add(GOLDEN_RATIO));
        for part in [stream, item] {
            state = mix(state ^ part.wrapping_mul(GOLDEN_RATIO).wrapping_add(0x6A09_E667_F3BC_C909));
        }
        Random { state }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_RATIO);
        mix(self.state)
    }

    /// Uniform in `0..n`; `n` is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        // Lemire (2019): multiply, and reject the few low products that would favour some results. The threshold is
        // below n, so that the division is rarely needed.
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            let low = product as u64;
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}
