//! The two x86 implementations. Each method is one or two instructions of the set its type stands for.
use std::arch::x86_64::*;

use super::Lanes;

/// AVX-512F; `dot` and `store_bf16` need AVX512-BF16 too, `dot_i8` AVX512-BW and VNNI.
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
        fn i8_pairs(from: *const i8) -> (Self, Self) {
            let pairs = _mm512_cvtepi16_epi32(_mm256_loadu_si256(from.cast()));
            let first = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(pairs));
            (Self(_mm512_cvtepi32_ps(first)), Self(_mm512_cvtepi32_ps(_mm512_srai_epi32::<8>(pairs))))
        }
        fn bf16_pairs(from: *const u32) -> (Self, Self) {
            let words = _mm512_loadu_si512(from.cast());
            let low = _mm512_slli_epi32::<16>(words);
            let high = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (Self(_mm512_castsi512_ps(low)), Self(_mm512_castsi512_ps(high)))
        }
        fn store(self: Self, to: *mut f32) { _mm512_storeu_ps(to, self.0) }
        fn dot(self: Self, words: *const u32, with: u32) -> Self {
            let words = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(words.cast()));
            let with = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(with as i32));
            Self(_mm512_dpbf16_ps(self.0, words, with))
        }
        fn dot_i8(self: Self, pairs: *const i8, with: u32) -> Self {
            let pairs = _mm512_cvtepi8_epi16(_mm256_loadu_si256(pairs.cast()));
            let sums = _mm512_castps_si512(self.0);
            Self(_mm512_castsi512_ps(_mm512_dpwssd_epi32(sums, pairs, _mm512_set1_epi32(with as i32))))
        }
        fn of_ints(self: Self) -> Self { Self(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0))) }
        fn store_i16(self: Self, to: *mut u32) {
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self.0)));
        }
        fn store_bf16(self: Self, to: *mut u32) {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_storeu_si256(to.cast(), rounded);
        }
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
        fn i8_pairs(from: *const i8) -> (Self, Self) {
            let low = _mm256_cvtepi16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepi16_epi32(_mm_loadu_si128(from.add(16).cast()));
            (
                Self(
                    _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(low))),
                    _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(high))),
                ),
                Self(
                    _mm256_cvtepi32_ps(_mm256_srai_epi32::<8>(low)),
                    _mm256_cvtepi32_ps(_mm256_srai_epi32::<8>(high)),
                ),
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
