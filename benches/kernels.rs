//! Instruction counts of care-kernels' AVX2 kernels, under Valgrind's Callgrind, which knows no AVX-512. One thread, the sizes
//! of a BERT-base.
//!
//! Needs the same tools as the bench `metrics`, then:
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench kernels
//! ```
//!
//! Counts show a change of one percent. They are no times: for those use `cargo bench -p care-kernels`.

#![allow(missing_docs)]

use std::hint::black_box;

use care_kernels::{
    Activation, AttentionHeads, F32Matrix, Int8Matrix, Matmul, PackedWeight, attention, layer_norm, matmul,
};
use gungraun::prelude::*;

const HIDDEN: usize = 768;
const INNER: usize = 4 * HIDDEN;

/// Values between -0.5 and 0.5.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// The first linear layer of the feed-forward block.
struct Linear<W> {
    weight: W,
    bias: Vec<f32>,
    input: Vec<f32>,
    out: Vec<f32>,
}

impl<W: PackedWeight> Linear<W> {
    fn new(rows: usize, pack: fn(&[f32], usize, usize) -> W) -> Self {
        let weight = pack(&values(HIDDEN * INNER), HIDDEN, INNER);
        Self { weight, bias: values(INNER), input: values(rows * HIDDEN), out: vec![0.0; rows * INNER] }
    }

    fn run(mut self) -> Self {
        let (bias, activation) = (Some(&self.bias[..]), Some(Activation::Gelu));
        let layer = Matmul { bias, activation, ..Matmul::new(&self.weight, &mut self.out) };
        matmul(black_box(&self.input), vec![layer], 1);
        self
    }
}

fn f32_linear(rows: usize) -> Linear<F32Matrix> {
    Linear::new(rows, F32Matrix::new)
}

fn int8_linear(rows: usize) -> Linear<Int8Matrix> {
    Linear::new(rows, Int8Matrix::new)
}

#[library_benchmark(setup = f32_linear)]
#[bench::few_rows(8)]
#[bench::many_rows(128)]
fn matmul_f32(linear: Linear<F32Matrix>) -> Linear<F32Matrix> {
    black_box(linear.run())
}

#[library_benchmark(setup = int8_linear)]
#[bench::few_rows(8)]
#[bench::many_rows(128)]
fn matmul_int8(linear: Linear<Int8Matrix>) -> Linear<Int8Matrix> {
    black_box(linear.run())
}

fn states(tokens: usize) -> Vec<f32> {
    values(tokens * HIDDEN)
}

#[library_benchmark(setup = states)]
#[bench::tokens_32(32)]
#[bench::tokens_128(128)]
fn self_attention(states: Vec<f32>) -> Vec<f32> {
    let head_dim = HIDDEN / 12;
    let heads = AttentionHeads { heads: 12, kv_heads: 12, head_dim, causal: false, reach: None, scale: 0.125 };
    let spans = [(0, states.len() / HIDDEN)];
    black_box(attention(black_box(&states), &states, &states, &spans, heads, None, 1))
}

fn norm() -> [Vec<f32>; 4] {
    [states(128), states(128), values(HIDDEN), values(HIDDEN)]
}

#[library_benchmark(setup = norm)]
#[bench::tokens_128()]
fn residual_layer_norm([mut states, added, weight, bias]: [Vec<f32>; 4]) -> Vec<f32> {
    layer_norm(black_box(&mut states), Some(&added), &weight, &bias, 1e-12, 1);
    black_box(states)
}

library_benchmark_group!(name = kernels, benchmarks = [matmul_f32, matmul_int8, self_attention, residual_layer_norm]);
main!(config = LibraryBenchmarkConfig::default().env("CARE_CPU", "avx2"), library_benchmark_groups = kernels);
