//! Instruction sets: detection, `CARE_CPU`, and the vector operations that the kernels add to pulp's.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

/// An instruction set that the kernels are compiled for.
///
/// The process uses the best one the processor supports, unless the environment variable `CARE_CPU` selects another:
/// `portable`, `avx2`, `avx512` or `neon`.
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

    /// `portable`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
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
            Set::Avx512(_) => pulp::x86::V4::F32_LANES,
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
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => Simd::vectorize(simd, Compiled(work, simd)),
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

    /// Converts integers to floats.
    fn numbers(self, whole: Self::i32s) -> Self::f32s;

    /// Prefetches vectors that are read next, if the processor supports it.
    #[inline(always)]
    fn prefetch<T>(self, _next: &[T; 2]) {}
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
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        let whole: [i32; 4] = pulp::cast(whole);
        pulp::cast(whole.map(|x| x as f32))
    }
}

#[cfg(target_arch = "aarch64")]
impl Kernel for pulp::aarch64::Neon {
    #[inline(always)]
    fn add_products(self, sums: Self::i32s, values: [Self::u32s; 2], weights: [Self::i32s; 2]) -> Self::i32s {
        pulp::cast(Scalar128b.add_products(pulp::cast(sums), values.map(pulp::cast), weights.map(pulp::cast)))
    }

    #[inline(always)]
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(Scalar128b.numbers(pulp::cast(whole)))
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
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx._mm256_cvtepi32_ps(pulp::cast(whole)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &[T; 2]) {
        // Both vectors are in one cache line.
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
    fn numbers(self, whole: Self::i32s) -> Self::f32s {
        pulp::cast(self.avx512f._mm512_cvtepi32_ps(pulp::cast(whole)))
    }

    #[inline(always)]
    fn prefetch<T>(self, next: &[T; 2]) {
        safe_arch::prefetch_t0(&next[0]);
        safe_arch::prefetch_t0(&next[1]);
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
