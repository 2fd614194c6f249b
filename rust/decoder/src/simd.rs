//! Sixteen float lanes on three kinds of processor, chosen when the program runs.
//!
//! A kernel is written once over `Lanes` and compiled for each instruction set by `dispatch!`. All implementations
//! keep the same order of operations; fused and unfused multiply-add round differently, so results are the same bits
//! on one machine, not across machines.

/// The instruction set that kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain Rust, vectorised by the compiler for the target's baseline.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512F.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best this machine has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Every set this machine can run.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
            }
        }
        sets
    }
}

/// Sixteen lanes.
///
/// # Safety
/// Every method needs a processor with the implementation's instruction set; loads and stores need sixteen numbers at
/// their pointer.
pub(crate) trait Lanes: Copy {
    /// Accumulators of sixteen lanes that the registers hold beside the operands of a matrix tile.
    const ACCUMULATORS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + addend`.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// `self * 2^exponent`; the exponent is whole and the result a normal number.
    unsafe fn scale(self, exponent: Self) -> Self;
    /// Sixteen signed bytes.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Two vectors out of sixteen pairs of bfloat16: the low halves and the high halves.
    unsafe fn bf16_pairs(from: *const u32) -> (Self, Self);
    /// A hint that the cache line will be read soon.
    unsafe fn prefetch(at: *const u8);
}

/// The portable lanes.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Plain {
    #[inline(always)]
    fn map(self, other: Self, op: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| op(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Plain {
    const ACCUMULATORS: usize = 3;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: sixteen floats by the trait's contract.
        Self(unsafe { from.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: sixteen floats by the trait's contract.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.map(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.map(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.map(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.map(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.map(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + addend.0[lane]))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // 1.5 * 2^23 pushes the fraction out of the mantissa: exact rounding without a library call, for |x| < 2^22.
        const SHIFT: f32 = 12_582_912.0;
        Self(self.0.map(|x| (x + SHIFT) - SHIFT))
    }
    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        self.map(exponent, |x, e| x * f32::from_bits((((e as i32) + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: sixteen bytes by the trait's contract.
        Self(unsafe { from.cast::<[i8; 16]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn bf16_pairs(from: *const u32) -> (Self, Self) {
        // SAFETY: sixteen words by the trait's contract.
        let words = unsafe { from.cast::<[u32; 16]>().read_unaligned() };
        (Self(words.map(|word| f32::from_bits(word << 16))), Self(words.map(|word| f32::from_bits(word & 0xffff_0000))))
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! The two x86 implementations. Each method is one or two instructions of the set its type stands for.
    use std::arch::x86_64::*;

    use super::Lanes;

    /// AVX-512F.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(__m512);

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Half(__m256, __m256);

    /// Declares a method whose body is safe under the trait's contract.
    macro_rules! lanes {
        ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
            #[inline(always)]
            unsafe fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the trait's contract gives the instruction set and the memory.
                unsafe { $body }
            }
        )*};
    }

    impl Lanes for Wide {
        const ACCUMULATORS: usize = 24;

        lanes! {
            fn splat(value: f32) -> Self { Self(_mm512_set1_ps(value)) }
            fn load(from: *const f32) -> Self { Self(_mm512_loadu_ps(from)) }
            fn add(self: Self, other: Self) -> Self { Self(_mm512_add_ps(self.0, other.0)) }
            fn mul(self: Self, other: Self) -> Self { Self(_mm512_mul_ps(self.0, other.0)) }
            fn div(self: Self, other: Self) -> Self { Self(_mm512_div_ps(self.0, other.0)) }
            fn max(self: Self, other: Self) -> Self { Self(_mm512_max_ps(self.0, other.0)) }
            fn min(self: Self, other: Self) -> Self { Self(_mm512_min_ps(self.0, other.0)) }
            fn fma(self: Self, factor: Self, addend: Self) -> Self {
                Self(_mm512_fmadd_ps(self.0, factor.0, addend.0))
            }
            fn round(self: Self) -> Self { Self(_mm512_roundscale_ps::<0>(self.0)) }
            fn scale(self: Self, exponent: Self) -> Self {
                Self(_mm512_scalef_ps(self.0, exponent.0))
            }
            fn load_i8(from: *const i8) -> Self {
                Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))))
            }
            fn bf16_pairs(from: *const u32) -> (Self, Self) {
                let words = _mm512_loadu_si512(from.cast());
                let low = _mm512_slli_epi32::<16>(words);
                let high = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                (Self(_mm512_castsi512_ps(low)), Self(_mm512_castsi512_ps(high)))
            }
            fn store(self: Self, to: *mut f32) { _mm512_storeu_ps(to, self.0) }
            fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }

    impl Lanes for Half {
        const ACCUMULATORS: usize = 6;

        lanes! {
            fn splat(value: f32) -> Self { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
            fn load(from: *const f32) -> Self {
                Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
            }
            fn add(self: Self, other: Self) -> Self {
                Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
            }
            fn mul(self: Self, other: Self) -> Self {
                Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
            }
            fn div(self: Self, other: Self) -> Self {
                Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1))
            }
            fn max(self: Self, other: Self) -> Self {
                Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1))
            }
            fn min(self: Self, other: Self) -> Self {
                Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1))
            }
            fn fma(self: Self, factor: Self, addend: Self) -> Self {
                Self(
                    _mm256_fmadd_ps(self.0, factor.0, addend.0),
                    _mm256_fmadd_ps(self.1, factor.1, addend.1),
                )
            }
            fn round(self: Self) -> Self {
                Self(_mm256_round_ps::<8>(self.0), _mm256_round_ps::<8>(self.1))
            }
            fn scale(self: Self, exponent: Self) -> Self {
                let bias = _mm256_set1_epi32(127);
                let low = _mm256_add_epi32(_mm256_cvtps_epi32(exponent.0), bias);
                let high = _mm256_add_epi32(_mm256_cvtps_epi32(exponent.1), bias);
                let low = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low));
                let high = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high));
                Self(_mm256_mul_ps(self.0, low), _mm256_mul_ps(self.1, high))
            }
            fn load_i8(from: *const i8) -> Self {
                Self(
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()))),
                )
            }
            fn bf16_pairs(from: *const u32) -> (Self, Self) {
                let first = _mm256_loadu_si256(from.cast());
                let second = _mm256_loadu_si256(from.add(8).cast());
                let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
                (
                    Self(
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(first)),
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(second)),
                    ),
                    Self(
                        _mm256_castsi256_ps(_mm256_and_si256(first, mask)),
                        _mm256_castsi256_ps(_mm256_and_si256(second, mask)),
                    ),
                )
            }
            fn store(self: Self, to: *mut f32) {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
            fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }
}

/// Declares `unsafe fn name(isa, args)`, which runs the generic `body::<L>(args)` compiled for `isa`.
///
/// Its caller keeps the body's contract; the instruction set is sound because an `Isa` comes from `Isa::detect`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name(isa: crate::simd::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn wide($($arg: $type),*) {
                // SAFETY: the caller of the dispatching function keeps the body's contract.
                unsafe { $body::<crate::simd::x86::Wide>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn half($($arg: $type),*) {
                // SAFETY: as above.
                unsafe { $body::<crate::simd::x86::Half>($($arg),*) }
            }
            match isa {
                // SAFETY: as above; `Plain` needs no instruction set.
                crate::simd::Isa::Portable => unsafe { $body::<crate::simd::Plain>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above; the processor has AVX2 and FMA.
                crate::simd::Isa::Avx2 => unsafe { half($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above; the processor has AVX-512F.
                crate::simd::Isa::Avx512 => unsafe { wide($($arg),*) },
            }
        }
    };
}

pub(crate) use dispatch;

/// e^x within two units in the last place; below -87 it stays at e^-87.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    // Cephes: e^x = 2^n * e^r with |r| <= ln(2)/2, n's share subtracted in two parts to keep r exact.
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: passed on to the caller.
    unsafe {
        let x = x.min(L::splat(88.0)).max(L::splat(-87.0));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(L::splat(-0.693_359_4), x);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        let mut y = L::splat(POLYNOMIAL[0]);
        for coefficient in &POLYNOMIAL[1..] {
            y = y.fma(r, L::splat(*coefficient));
        }
        let y = y.fma(r.mul(r), r).add(L::splat(1.0));
        y.scale(n)
    }
}

/// The sixteen lanes reduced by `op` in a fixed order: halves, quarters, eighths, pairs.
///
/// # Safety
/// As `Lanes`.
#[inline(always)]
pub(crate) unsafe fn reduce<L: Lanes>(x: L, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    // SAFETY: passed on to the caller; the array has sixteen floats.
    unsafe { x.store(lanes.as_mut_ptr()) };
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = op(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}
