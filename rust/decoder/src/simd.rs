//! Sixteen float lanes on three kinds of processor, chosen when the program runs.
//!
//! A kernel is written once over `Lanes` and compiled for each instruction set by `dispatch!`. All implementations
//! keep the same order of operations; fused and unfused multiply-add round differently, so results are the same bits
//! on one machine, not across machines.

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use crate::brain;

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
    /// AVX-512F, BW, BF16 and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Dot,
}

impl Isa {
    /// The best this machine has.
    pub(crate) fn detect() -> Self {
        *Self::available().last().expect("the portable one")
    }

    /// Whether it has instructions for dot products of pairs.
    pub(crate) fn multiplies_pairs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Avx512Dot;
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Every set this machine can run, the best last.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
                let dots = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
                if dots && is_x86_feature_detected!("avx512bw") {
                    sets.push(Self::Avx512Dot);
                }
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
    /// Two vectors out of sixteen pairs of signed bytes: the first ones and the second ones.
    unsafe fn i8_pairs(from: *const i8) -> (Self, Self);
    /// Two vectors out of sixteen pairs of bfloat16: the low halves and the high halves.
    unsafe fn bf16_pairs(from: *const u32) -> (Self, Self);
    /// A hint that the cache line will be read soon.
    unsafe fn prefetch(at: *const u8);

    /// `self` and, of each of sixteen words of two bfloat16, the dot product with one such word.
    #[inline(always)]
    unsafe fn dot(self, words: *const u32, with: u32) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            let (low, high) = Self::bf16_pairs(words);
            let sum = Self::splat(f32::from_bits(with << 16)).fma(low, self);
            Self::splat(f32::from_bits(with & 0xffff_0000)).fma(high, sum)
        }
    }

    /// Stores the nearest bfloat16 of each lane, in eight words.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u32) {
        let mut lanes = [0.0; 16];
        // SAFETY: passed on to the caller; the array has sixteen floats.
        unsafe {
            self.store(lanes.as_mut_ptr());
            to.cast::<[u16; 16]>().write_unaligned(lanes.map(brain::nearest));
        }
    }

    /// `self` and, of each of sixteen pairs of signed bytes, the dot product with a word of two int16. Lanes hold the
    /// bits of int32, which may not overflow.
    #[inline(always)]
    unsafe fn dot_i8(self, pairs: *const i8, with: u32) -> Self {
        let mut sums = [0.0; 16];
        // SAFETY: passed on to the caller; the array has sixteen floats.
        unsafe {
            self.store(sums.as_mut_ptr());
            let pairs = pairs.cast::<[[i8; 2]; 16]>().read_unaligned();
            let (first, second) = (i32::from(with as i16), i32::from((with >> 16) as i16));
            for (sum, pair) in sums.iter_mut().zip(pairs) {
                let product = first * i32::from(pair[0]) + second * i32::from(pair[1]);
                *sum = f32::from_bits((sum.to_bits() as i32 + product) as u32);
            }
            Self::load(sums.as_ptr())
        }
    }

    /// The floats nearest to lanes that hold the bits of int32.
    #[inline(always)]
    unsafe fn of_ints(self) -> Self {
        let mut lanes = [0.0; 16];
        // SAFETY: as above.
        unsafe {
            self.store(lanes.as_mut_ptr());
            Self::load(lanes.map(|lane: f32| (lane.to_bits() as i32) as f32).as_ptr())
        }
    }

    /// Stores the nearest int16 of each lane, in eight words; each lane is within its range.
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut u32) {
        let mut lanes = [0.0; 16];
        // SAFETY: as above.
        unsafe {
            self.round().store(lanes.as_mut_ptr());
            to.cast::<[i16; 16]>().write_unaligned(lanes.map(|lane| lane as i16));
        }
    }
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
    unsafe fn i8_pairs(from: *const i8) -> (Self, Self) {
        // SAFETY: thirty-two bytes by the trait's contract.
        let pairs = unsafe { from.cast::<[[i8; 2]; 16]>().read_unaligned() };
        (Self(pairs.map(|pair| f32::from(pair[0]))), Self(pairs.map(|pair| f32::from(pair[1]))))
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

/// Declares `unsafe fn name(isa, args)`, which runs the generic `body::<L>(args)` compiled for `isa`; with `pairs`
/// before it, of a body that uses `dot`, `dot_i8`, `store_bf16` or `store_i16`, whose instructions `Isa::Avx512` may
/// lack.
///
/// Its caller keeps the body's contract; the instruction set is sound because an `Isa` comes from `Isa::detect`.
macro_rules! dispatch {
    (pairs $(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name(isa: crate::simd::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vnni,avx2,fma")]
            unsafe fn wide($($arg: $type),*) {
                // SAFETY: the caller of the dispatching function keeps the body's contract.
                unsafe { $body::<crate::simd::x86::Wide>($($arg),*) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above; the processor has the instructions.
                crate::simd::Isa::Avx512Dot => unsafe { wide($($arg),*) },
                // SAFETY: as above; `Plain` needs no instruction set.
                _ => unsafe { $body::<crate::simd::Plain>($($arg),*) },
            }
        }
    };
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name(isa: crate::simd::Isa, $($arg: $type),*) {
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
                crate::simd::Isa::Avx512 | crate::simd::Isa::Avx512Dot => unsafe { wide($($arg),*) },
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
        // What is not a number stays so: of one, both give their second operand.
        let x = L::splat(-87.0).max(L::splat(88.0).min(x));
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
