//! Instruction sets: detection, `CARE_CPU`, and running work on one.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

use crate::kernel::{Kernel, Narrow, OnBytes, Wide, WithBytes, WithKernel};
#[cfg(target_arch = "x86_64")]
use crate::vnni::Vnni;

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

/// Work with its instruction set, since `vectorize` passes on only what all sets have in common.
struct Compiled<W, S>(W, S);

impl<W: WithKernel, K: Kernel> WithSimd for Compiled<W, K> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> W::Output {
        self.0.with_kernel(self.1)
    }
}
