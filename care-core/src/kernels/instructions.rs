//! Which vector instructions the kernels use.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

use super::int8::AddProducts;
use crate::{Error, Result};

/// A set of vector instructions that the kernels are compiled for.
///
/// The best one that the processor has is taken, unless the environment variable `CARE_CPU` names another:
/// `portable`, `avx2`, `avx512` or `neon`.
#[derive(Clone, Copy)]
pub enum InstructionSet {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// AVX-512 (F, BW, CD, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl InstructionSet {
    /// Those this processor has, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "changed on some architectures")]
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(pulp::x86::V3::try_new().map(Self::Avx2));
            sets.extend(pulp::x86::V4::try_new().map(Self::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        sets
    }

    /// The one that the process uses; the best where `CARE_CPU` is not set or wrong.
    pub fn current() -> Self {
        static CURRENT: OnceLock<InstructionSet> = OnceLock::new();
        *CURRENT.get_or_init(|| match Self::chosen() {
            Ok(Some(set)) => set,
            _ => Self::available().pop().unwrap_or(Self::Portable),
        })
    }

    /// The one that `CARE_CPU` names.
    ///
    /// # Errors
    /// When it names none that this processor has.
    pub(crate) fn chosen() -> Result<Option<Self>> {
        let Some(name) = std::env::var_os("CARE_CPU") else { return Ok(None) };
        let sets = Self::available();
        let found = sets.iter().find(|set| *set.name() == *name);
        found.copied().map(Some).ok_or_else(|| {
            let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
            Error::setting("CARE_CPU", format!("{name:?}"), &format!("on this processor {}", names.join(", ")))
        })
    }

    /// `portable`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }

    /// Numbers of 32 bits in a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Portable => Scalar128b::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => pulp::x86::V3::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => pulp::x86::V4::F32_LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => pulp::aarch64::Neon::F32_LANES,
        }
    }

    /// Runs `work` compiled for this set.
    #[inline]
    pub(super) fn run<W: WithKernel>(self, work: W) -> W::Output {
        match self {
            Self::Portable => Simd::vectorize(Scalar128b, Compiled(work, Scalar128b)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, Compiled(work, simd)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, Compiled(work, simd)),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, Compiled(work, simd)),
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Vectors of an instruction set.
pub(super) trait Kernel: AddProducts {}
impl<S: AddProducts> Kernel for S {}

/// Work that is compiled for each set.
pub(super) trait WithKernel {
    type Output;

    /// Must be `#[inline(always)]`, as all that it calls: what is not inlined is not compiled for the set.
    fn with_kernel<S: Kernel>(self, simd: S) -> Self::Output;
}

/// The set itself goes along, since `vectorize` knows only what all sets have in common.
struct Compiled<W, S>(W, S);

impl<W: WithKernel, K: Kernel> WithSimd for Compiled<W, K> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> W::Output {
        self.0.with_kernel(self.1)
    }
}
