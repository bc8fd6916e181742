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
}
