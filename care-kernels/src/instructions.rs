//! Instruction sets: detection, `CARE_CPU`, and the vector operations that the kernels add to pulp's.

#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::int8x16_t;
use std::fmt;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use self::vnni::Vnni;

/// An instruction set that the kernels are compiled for.
///
/// The process uses the best one the processor supports, unless the environment variable `CARE_CPU` selects another:
/// `portable`, `avx2`, `avx512`, `avx512vnni` or `neon`.
#[derive(Clone, Copy)]
pub struct InstructionSet(Set);

#[derive(Clone, Copy)]
enum Set {
    /// The baseline of the architecture.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// AVX-512 (F, BW, CD, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// AVX-512 with the dot products of bytes (VNNI), which int8 and 4-bit weights use.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Vnni),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

/// `CARE_CPU` names an instruction set that does not exist or that this processor does not support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedInstructionSet {
    name: String,
}

impl UnsupportedInstructionSet {
    /// The value of `CARE_CPU`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UnsupportedInstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = InstructionSet::available().iter().map(|set| set.name()).collect();
        write!(f, "`CARE_CPU` is {:?}, allowed: on this processor {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnsupportedInstructionSet {}

impl InstructionSet {
    /// The sets this processor supports, best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "changed on some architectures")]
        let mut sets = vec![Set::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(pulp::x86::V3::try_new().map(Set::Avx2));
            sets.extend(pulp::x86::V4::try_new().map(Set::Avx512));
            sets.extend(Vnni::try_new().map(Set::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(pulp::aarch64::Neon::try_new().map(Set::Neon));
        sets.into_iter().map(Self).collect()
    }

    /// The set this process uses; the best one if `CARE_CPU` is unset or invalid.
    pub fn current() -> Self {
        static CURRENT: OnceLock<InstructionSet> = OnceLock::new();
        *CURRENT.get_or_init(|| match Self::from_env() {
            Ok(Some(set)) => set,
            _ => Self::available().pop().unwrap_or(Self(Set::Portable)),
        })
    }

    /// The set that `CARE_CPU` names; `None` if it is not set.
    ///
    /// # Errors
    /// If it names a set that this processor does not support.
    pub fn from_env() -> Result<Option<Self>, UnsupportedInstructionSet> {
        let Some(name) = std::env::var_os("CARE_CPU") else { return Ok(None) };
        let found = Self::available().into_iter().find(|set| *set.name() == *name);
        found.map(Some).ok_or_else(|| UnsupportedInstructionSet { name: name.to_string_lossy().into_owned() })
    }

    /// `portable`, `avx2`, `avx512`, `avx512vnni` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => "neon",
        }
    }

    /// 32-bit lanes per vector.
    pub(crate) fn lanes(self) -> usize {
        match self.0 {
            Set::Portable => Scalar128b::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => pulp::x86::V3::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) | Set::Avx512Vnni(_) => pulp::x86::V4::F32_LANES,
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => pulp::aarch64::Neon::F32_LANES,
        }
    }

    /// Runs `work` compiled for this set.
    #[inline]
    pub(crate) fn run<W: WithKernel>(self, work: W) -> W::Output {
        match self.0 {
            Set::Portable => Simd::vectorize(Scalar128b, Compiled(work, Scalar128b)),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => Simd::vectorize(simd, Compiled(work, simd)),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => Simd::vectorize(simd, Compiled(work, simd)),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(vnni) => Simd::vectorize(vnni.simd(), Compiled(work, vnni.simd())),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => Simd::vectorize(simd, Compiled(work, simd)),
        }
    }

    /// [`Kernel::F16_IN_ORDER`].
    pub(crate) fn widens_f16_in_order(self) -> bool {
        struct InOrder;
        impl WithKernel for InOrder {
            type Output = bool;

            #[inline(always)]
            fn with_kernel<S: Kernel>(self, _simd: S) -> bool {
                S::F16_IN_ORDER
            }
        }
        self.run(InOrder)
    }

    /// Whether the set has instructions for dot products of unsigned and signed bytes of any size, with which
    /// [`Int8Matrix`](crate::Int8Matrix) quantizes more finely.
    pub fn has_byte_products(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(_) => true,
            _ => false,
        }
    }

    /// Runs `work` on bytes compiled for this set; weights from -63 to 63 are `narrow`.
    #[inline]
    pub(crate) fn run_bytes<W: WithBytes>(self, work: W, narrow: bool) -> W::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(vnni) => vnni.run(work),
            _ if narrow => self.run(OnBytes(work, Narrow)),
            _ => self.run(OnBytes(work, Wide)),
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The vector operations that the kernels need beyond [`Simd`].
pub(crate) trait Kernel: Simd {
    /// `a * b + c`, fused if that is faster.
    #[inline(always)]
    fn add_product(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_e_f32s(a, b, c)
    }

    /// Adds to each lane of `sums` the eight products of its bytes of `values`, 0 to 127, and `weights`, -63 to 63. The
    /// sum of four such products fits into 16 bits.
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s;

    /// The same for weights from -127 to 127: the sum of two such products fits into 16 bits.
    fn add_wide_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s;

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

/// Work with its instruction set, since `vectorize` passes on only what all sets have in common.
struct Compiled<W, S>(W, S);

impl<W: WithKernel, K: Kernel> WithSimd for Compiled<W, K> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> W::Output {
        self.0.with_kernel(self.1)
    }
}

/// How products of bytes are added on an instruction set.
pub(crate) trait Bytes<S: Kernel>: Copy {
    /// The largest quantized input; the least is 0.
    const STEPS: f32;

    /// Rows per tile: as many as leave registers for the intermediate results beside the accumulators.
    const ROWS: usize;

    /// Adds to each lane of `sums` the eight products of its bytes of `values`, which are unsigned, and `weights`.
    fn add_products(self, simd: S, sums: S::i32s, values: [S::u32s; 2], weights: [S::i32s; 2]) -> S::i32s;
}

/// Weights from -63 to 63: [`Kernel::add_products`].
#[derive(Clone, Copy)]
struct Narrow;

/// Weights from -127 to 127: [`Kernel::add_wide_products`].
#[derive(Clone, Copy)]
struct Wide;

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
struct OnBytes<W, B>(W, B);

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
