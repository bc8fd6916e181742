//! Dot products of bytes with AVX-512 VNNI, which pulp does not offer: the only module with `unsafe` code.

#![allow(unsafe_code, reason = "calls of functions that are compiled for instructions whose presence has been checked")]

use std::arch::x86_64::_mm512_dpbusd_epi32;

use pulp::x86::V4;

use crate::kernel::{Bytes, WithBytes};

/// Proof that the processor has AVX-512 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vnni {
    // Private, so that only `try_new` makes one.
    simd: V4,
}

impl Vnni {
    /// The proof, if the processor has both.
    pub(crate) fn try_new() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512vnni")).map(|simd| Self { simd })
    }

    /// AVX-512 without VNNI.
    pub(crate) fn simd(self) -> V4 {
        self.simd
    }

    /// Runs `work` compiled for AVX-512 with VNNI.
    #[inline]
    pub(crate) fn run<W: WithBytes>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt")]
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
        fn compiled<W: WithBytes>(work: W, vnni: Vnni) -> W::Output {
            work.with_bytes(vnni.simd, vnni)
        }
        // SAFETY: `self` exists, so `try_new` has found these features: V4 proves all but the last.
        unsafe { compiled(work, self) }
    }
}

impl Bytes<V4> for Vnni {
    const STEPS: f32 = 255.0;
    const ROWS: usize = 12;

    #[inline(always)]
    fn add_products(
        self,
        _simd: V4,
        sums: pulp::i32x16,
        values: [pulp::u32x16; 2],
        weights: [pulp::i32x16; 2],
    ) -> pulp::i32x16 {
        let [first, second] = values;
        let sums = pulp::cast(sums);
        // SAFETY: `self` proves that the processor has AVX-512 VNNI. The instruction touches registers only.
        unsafe {
            let sums = _mm512_dpbusd_epi32(sums, pulp::cast(first), pulp::cast(weights[0]));
            pulp::cast(_mm512_dpbusd_epi32(sums, pulp::cast(second), pulp::cast(weights[1])))
        }
    }

    #[inline(always)]
    fn totals(self, sums: [pulp::i32x16; 4]) -> [i32; 4] {
        let (f, avx2, sse2) = (self.simd.avx512f, self.simd.avx2, self.simd.sse2);
        let [a, b, c, d] = sums.map(pulp::cast);
        // First neighbours in 64 bits, then in 128 bits, where the sums of all four vectors lie side by side.
        let ab = f._mm512_add_epi32(f._mm512_unpacklo_epi32(a, b), f._mm512_unpackhi_epi32(a, b));
        let cd = f._mm512_add_epi32(f._mm512_unpacklo_epi32(c, d), f._mm512_unpackhi_epi32(c, d));
        let all = f._mm512_add_epi32(f._mm512_unpacklo_epi64(ab, cd), f._mm512_unpackhi_epi64(ab, cd));
        let half = avx2._mm256_add_epi32(f._mm512_castsi512_si256(all), f._mm512_extracti64x4_epi64::<1>(all));
        let quarter = avx2._mm256_extracti128_si256::<1>(half);
        pulp::cast(sse2._mm_add_epi32(self.simd.avx._mm256_castsi256_si128(half), quarter))
    }
}
