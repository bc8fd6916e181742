//! The vector operations that the kernels add to pulp's, for each instruction set, and work that is compiled for each.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::int8x16_t;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use pulp::{Scalar128b, Simd};

/// The vector operations that the kernels need beyond [`Simd`].
pub(crate) trait Kernel: Simd {
    /// `a * b + c`, fused if that is faster.
    #[inline(always)]
    fn add_product(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }

    /// The sum of the lanes of each vector, as [`Simd::reduce_sum_f32s`] adds them.
    #[inline(always)]
    fn sums_of_four(self, vectors: [Self::f32s; 4]) -> [f32; 4] {
        vectors.map(|vector| self.reduce_sum_f32s(vector))
    }

    /// Adds to each lane of `sums` the eight products of its bytes of `values`, 0 to 127, and `weights`, -63 to 63. The
    /// sum of four such products fits into 16 bits.
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s;

    /// The same for weights from -127 to 127: the sum of two such products fits into 16 bits.
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s;

    /// Adds to each lane of `sums` the products of the two signed numbers of 16 bits in it, of which -32768 is none.
    #[inline(always)]
    fn add_word_products(self, sums: Self::i32s, a: Self::u32s, b: Self::i32s) -> Self::i32s {
        let mut sums = [sums];
        let (a, b) = ([a], [b]);
        let words = pulp::bytemuck::cast_slice::<Self::u32s, [i16; 2]>(&a).iter();
        let words = words.zip(pulp::bytemuck::cast_slice::<Self::i32s, [i16; 2]>(&b));
        for (sum, (a, b)) in pulp::bytemuck::cast_slice_mut::<Self::i32s, i32>(&mut sums).iter_mut().zip(words) {
            *sum += i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1]);
        }
        sums[0]
    }

    /// Converts integers to floats.
    fn numbers(self, whole: Self::i32s) -> Self::f32s;

    /// The two bfloat16 numbers of each lane, low half first.
    #[inline(always)]
    fn widen_bf16(self, pairs: Self::u32s) -> [Self::f32s; 2] {
        let low = self.wrapping_dyn_shl_u32s(pairs, self.splat_u32s(16));
        let high = self.and_u32s(pairs, self.splat_u32s(0xffff_0000));
        [low, high].map(|bits| self.transmute_f32s_u32s(bits))
    }

    /// Whether [`Kernel::widen_f16`] takes numbers that follow one another, not the halves of lanes.
    const F16_IN_ORDER: bool = false;

    /// Two vectors of IEEE half-precision numbers: the low and the high half of each lane. NaN becomes an infinity.
    #[inline(always)]
    fn widen_f16(self, pairs: Self::u32s) -> [Self::f32s; 2] {
        let low = self.wrapping_dyn_shl_u32s(pairs, self.splat_u32s(16));
        [low, pairs].map(|bits| {
            let sign = self.and_u32s(bits, self.splat_u32s(0x8000_0000));
            // Three exponent bits more, and the difference of the biases, 112, as a factor: exact for subnormals, too.
            let magnitude = self.and_u32s(bits, self.splat_u32s(0x7fff_0000));
            let magnitude = self.transmute_f32s_u32s(self.wrapping_dyn_shr_u32s(magnitude, self.splat_u32s(3)));
            let scaled = self.mul_f32s(magnitude, self.splat_f32s(f32::from_bits((127 + 112) << 23)));
            let finite = self.less_than_f32s(scaled, self.splat_f32s(65536.0));
            let whole = self.select_f32s(finite, scaled, self.splat_f32s(f32::INFINITY));
            self.transmute_f32s_u32s(self.or_u32s(self.transmute_u32s_f32s(whole), sign))
        })
    }

    /// Prefetches vectors that are read next, if the processor supports it.
    #[inline(always)]
    fn prefetch<T>(self, _next: &[T; 2]) {}

    /// [`Kernel::prefetch`] of one vector.
    #[inline(always)]
    fn prefetch_one<T>(self, _next: &T) {}
}

impl Kernel for Scalar128b {
    #[inline(always)]
    fn add_product(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        // The fused operation compiles to a function call where it is not part of the baseline.
        self.add_f32s(self.mul_f32s(a, b), c)
    }

    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let mut sums: [i32; 4] = pulp::cast(sums);
        for (values, weights) in values.into_iter().zip(weights) {
            let (values, weights): ([[u8; 4]; 4], [[i8; 4]; 4]) = (pulp::cast(values), pulp::cast(weights));
            for ((sum, values), weights) in sums.iter_mut().zip(values).zip(weights) {
                *sum += (0..4).map(|at| i32::from(values[at]) * i32::from(weights[at])).sum::<i32>();
            }
        }
        pulp::cast(sums)
    }

    #[inline(always)]
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        self.add_products(sums, values, weights)
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        let whole: [i32; 4] = pulp::cast(whole);
        pulp::cast(whole.map(|x| x as f32))
    }
}

#[cfg(target_arch = "aarch64")]
impl Kernel for pulp::aarch64::Neon {
    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        self.add_wide_products(sums, values, weights)
    }

    #[inline(always)]
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let neon = self.neon;
        let values: [int8x16_t; 2] = [pulp::cast(values[0]), pulp::cast(values[1])];
        let weights: [int8x16_t; 2] = [pulp::cast(weights[0]), pulp::cast(weights[1])];
        let low = neon.vmull_s8(neon.vget_low_s8(values[0]), neon.vget_low_s8(weights[0]));
        let low = neon.vmlal_s8(low, neon.vget_low_s8(values[1]), neon.vget_low_s8(weights[1]));
        let high = neon.vmull_high_s8(values[0], weights[0]);
        let high = neon.vmlal_high_s8(high, values[1], weights[1]);
        // Neighbours are added twice, which leaves the sum of each lane's bytes.
        let quads = neon.vpaddq_s32(neon.vpaddlq_s16(low), neon.vpaddlq_s16(high));
        pulp::cast(neon.vaddq_s32(pulp::cast(sums), quads))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.neon.vcvtq_f32_s32(pulp::cast(whole)))
    }
}

#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    #[inline(always)]
    fn sums_of_four(self, vectors: [Self::f32s; 4]) -> [f32; 4] {
        let (avx, [a, b, c, d]) = (self.avx, vectors.map(pulp::cast::<_, __m256>));
        // The halves of two vectors, side by side: a, b and c, d.
        let halves = |a, b| {
            avx._mm256_add_ps(avx._mm256_permute2f128_ps::<0x20>(a, b), avx._mm256_permute2f128_ps::<0x31>(a, b))
        };
        let (ab, cd) = (halves(a, b), halves(c, d));
        // The halves of these: a, c in one and b, d in the other half.
        let pairs = avx._mm256_add_ps(avx._mm256_shuffle_ps::<0x44>(ab, cd), avx._mm256_shuffle_ps::<0xee>(ab, cd));
        let sums = avx._mm256_add_ps(pairs, avx._mm256_permute_ps::<0b11_11_01_01>(pairs));
        let [a, _, c, _, b, _, d, _]: [f32; 8] = pulp::cast(sums);
        [a, b, c, d]
    }

    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let first = self.avx2._mm256_maddubs_epi16(pulp::cast(values[0]), pulp::cast(weights[0]));
        let second = self.avx2._mm256_maddubs_epi16(pulp::cast(values[1]), pulp::cast(weights[1]));
        let pairs = self.avx2._mm256_add_epi16(first, second);
        let quads = self.avx2._mm256_madd_epi16(pairs, self.avx._mm256_set1_epi16(1));
        pulp::cast(self.avx2._mm256_add_epi32(pulp::cast(sums), quads))
    }

    #[inline(always)]
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let ones = self.avx._mm256_set1_epi16(1);
        let first = self.avx2._mm256_maddubs_epi16(pulp::cast(values[0]), pulp::cast(weights[0]));
        let second = self.avx2._mm256_maddubs_epi16(pulp::cast(values[1]), pulp::cast(weights[1]));
        let first = self.avx2._mm256_madd_epi16(first, ones);
        let sums = self.avx2._mm256_add_epi32(pulp::cast(sums), first);
        pulp::cast(self.avx2._mm256_add_epi32(sums, self.avx2._mm256_madd_epi16(second, ones)))
    }

    #[inline(always)]
    fn add_word_products(self, sums: Self::i32s, a: Self::u32s, b: Self::i32s) -> Self::i32s {
        let products = self.avx2._mm256_madd_epi16(pulp::cast(a), pulp::cast(b));
        pulp::cast(self.avx2._mm256_add_epi32(pulp::cast(sums), products))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx._mm256_cvtepi32_ps(pulp::cast(whole)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &[T; 2]) {
        // Both vectors are in one cache line.
        safe_arch::prefetch_t0(next);
    }

    #[inline(always)]
    fn prefetch_one<T>(self, next: &T) {
        safe_arch::prefetch_t0(next);
    }
}

#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V4 {
    #[inline(always)]
    fn sums_of_four(self, vectors: [Self::f32s; 4]) -> [f32; 4] {
        let (avx, [a, b, c, d]) = (self.avx512f, vectors.map(pulp::cast::<_, __m512>));
        // The halves of two vectors, side by side: a, b and c, d.
        let halves =
            |a, b| avx._mm512_add_ps(avx._mm512_shuffle_f32x4::<0x44>(a, b), avx._mm512_shuffle_f32x4::<0xee>(a, b));
        let (ab, cd) = (halves(a, b), halves(c, d));
        // The quarters: a, b, c, d.
        let quarters =
            avx._mm512_add_ps(avx._mm512_shuffle_f32x4::<0x88>(ab, cd), avx._mm512_shuffle_f32x4::<0xdd>(ab, cd));
        let pairs = avx._mm512_add_ps(quarters, avx._mm512_permute_ps::<0b01_00_11_10>(quarters));
        let sums = avx._mm512_add_ps(pairs, avx._mm512_permute_ps::<0b10_11_00_01>(pairs));
        let first = avx._mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        pulp::cast(avx._mm512_castps512_ps128(avx._mm512_permutexvar_ps(first, sums)))
    }

    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let first = self.avx512bw._mm512_maddubs_epi16(pulp::cast(values[0]), pulp::cast(weights[0]));
        let second = self.avx512bw._mm512_maddubs_epi16(pulp::cast(values[1]), pulp::cast(weights[1]));
        let pairs = self.avx512bw._mm512_add_epi16(first, second);
        let quads = self.avx512bw._mm512_madd_epi16(pairs, self.avx512f._mm512_set1_epi16(1));
        pulp::cast(self.avx512f._mm512_add_epi32(pulp::cast(sums), quads))
    }

    #[inline(always)]
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        let ones = self.avx512f._mm512_set1_epi16(1);
        let first = self.avx512bw._mm512_maddubs_epi16(pulp::cast(values[0]), pulp::cast(weights[0]));
        let second = self.avx512bw._mm512_maddubs_epi16(pulp::cast(values[1]), pulp::cast(weights[1]));
        let first = self.avx512bw._mm512_madd_epi16(first, ones);
        let sums = self.avx512f._mm512_add_epi32(pulp::cast(sums), first);
        pulp::cast(self.avx512f._mm512_add_epi32(sums, self.avx512bw._mm512_madd_epi16(second, ones)))
    }

    #[inline(always)]
    fn add_word_products(self, sums: Self::i32s, a: Self::u32s, b: Self::i32s) -> Self::i32s {
        let products = self.avx512bw._mm512_madd_epi16(pulp::cast(a), pulp::cast(b));
        pulp::cast(self.avx512f._mm512_add_epi32(pulp::cast(sums), products))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx512f._mm512_cvtepi32_ps(pulp::cast(whole)))
    }

    const F16_IN_ORDER: bool = true;

    #[inline(always)]
    fn widen_f16(self, pairs: Self::u32s) -> [Self::f32s; 2] {
        let pairs = pulp::cast(pairs);
        let halves = [self.avx512f._mm512_castsi512_si256(pairs), self.avx512f._mm512_extracti64x4_epi64::<1>(pairs)];
        halves.map(|halves| pulp::cast(self.avx512f._mm512_cvtph_ps(halves)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &[T; 2]) {
        safe_arch::prefetch_t0(&next[0]);
        safe_arch::prefetch_t0(&next[1]);
    }

    #[inline(always)]
    fn prefetch_one<T>(self, next: &T) {
        safe_arch::prefetch_t0(next);
    }
}

/// Work that is compiled for each instruction set.
pub(crate) trait WithKernel {
    type Output;

    /// Must be `#[inline(always)]`, like everything it calls: code that is not inlined is not compiled for the set.
    fn with_kernel<S: Kernel>(self, simd: S) -> Self::Output;
}

/// How products of bytes are added on an instruction set.
pub(crate) trait Bytes<S: Kernel>: Copy {
    /// The largest quantized input; the least is 0.
    const STEPS: f32;

    /// Rows per tile: as many as leave registers for the intermediate results beside the accumulators.
    const ROWS: usize;

    /// Adds to each lane of `sums` the eight products of its bytes of `values`, which are unsigned, and `weights`.
    fn add_products(self, simd: S, sums: S::i32s, values: [S::u32s; 2], weights: [S::i32s; 2]) -> S::i32s;

    /// The sum of the lanes of each of four vectors.
    #[inline(always)]
    fn totals(self, sums: [S::i32s; 4]) -> [i32; 4] {
        sums.map(|sums| pulp::bytemuck::cast_slice::<S::i32s, i32>(&[sums]).iter().sum())
    }
}

/// Weights from -63 to 63: [`Kernel::add_products`].
#[derive(Clone, Copy)]
pub(crate) struct Narrow;

/// Weights from -127 to 127: [`Kernel::add_wide_products`].
#[derive(Clone, Copy)]
pub(crate) struct Wide;

impl<S: Kernel> Bytes<S> for Narrow {
    const STEPS: f32 = 127.0;
    const ROWS: usize = if S::REGISTER_COUNT >= 32 { 8 } else { 4 };

    #[inline(always)]
    fn add_products(self, simd: S, sums: S::i32s, values: [S::u32s; 2], weights: [S::i32s; 2]) -> S::i32s {
        simd.add_products(sums, values, weights)
    }
}

impl<S: Kernel> Bytes<S> for Wide {
    const STEPS: f32 = 127.0;
    const ROWS: usize = <Narrow as Bytes<S>>::ROWS;

    #[inline(always)]
    fn add_products(self, simd: S, sums: S::i32s, values: [S::u32s; 2], weights: [S::i32s; 2]) -> S::i32s {
        simd.add_wide_products(sums, values, weights)
    }
}

/// Work on bytes that is compiled for each instruction set.
pub(crate) trait WithBytes {
    type Output;

    /// Must be `#[inline(always)]`, like everything it calls.
    fn with_bytes<S: Kernel, B: Bytes<S>>(self, simd: S, bytes: B) -> Self::Output;
}

/// Work on bytes with the way in which their products are added.
pub(crate) struct OnBytes<W, B>(pub(crate) W, pub(crate) B);

impl<W: WithBytes> WithKernel for OnBytes<W, Narrow> {
    type Output = W::Output;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) -> W::Output {
        self.0.with_bytes(simd, self.1)
    }
}

impl<W: WithBytes> WithKernel for OnBytes<W, Wide> {
    type Output = W::Output;

    #[inline(always)]
    fn with_kernel<S: Kernel>(self, simd: S) -> W::Output {
        self.0.with_bytes(simd, self.1)
    }
}
