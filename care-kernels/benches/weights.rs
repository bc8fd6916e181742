//! Times matmuls with weights of each form beside each other.
//!
//! ```text
//! cargo bench -p care-kernels --bench weights
//! ```
//!
//! Prints one JSON object per shape: rows, inputs, outputs and, for each form of the weight, the median of its times in
//! milliseconds. The forms take turns, and weights are alternated so that they come from memory as in a forward pass.
//! `CARE_CPU=avx512` and `avx2` show what other processors do.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::time::Instant;

use care_kernels::{F32Matrix, Half, HalfMatrix, InstructionSet, Int4Matrix, Int8Matrix, Matmul, PackedWeight, matmul};
use serde_json::json;

const ROUNDS: usize = 21;

/// Bytes of f32 weights that are multiplied in turn, so that none is in a cache when it is needed again.
const ALTERNATED: usize = 64 << 20;

/// Numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// Multiplies with several weights of one form.
type Run = Box<dyn Fn(&[f32], &mut [f32], usize)>;

fn form<W: PackedWeight + 'static>(count: usize, pack: impl Fn() -> W) -> Run {
    let weights: Vec<W> = (0..count).map(|_| pack()).collect();
    Box::new(move |input, out, threads| {
        for weight in &weights {
            matmul(input, vec![Matmul::new(weight, out)], threads);
        }
    })
}

fn main() {
    println!("{}", json!({ "instruction_set": InstructionSet::current().name() }));
    // Of multilingual-e5-small, BERT-base, SmolLM2-135M and Qwen3-4B.
    let shapes = [[384, 1536], [768, 768], [1536, 576], [576, 1536], [2560, 9728]];
    rayon::scope(|_| {
        let threads = rayon::current_num_threads();
        for [inputs, outputs] in shapes {
            let weight = numbers(inputs * outputs);
            let count = (ALTERNATED / (4 * weight.len())).max(1);
            let forms: [(&str, Run); 6] = [
                ("f32", form(count, || F32Matrix::new(&weight, inputs, outputs))),
                ("bf16", form(count, || HalfMatrix::new(&weight, inputs, outputs, Half::Bf16))),
                ("f16", form(count, || HalfMatrix::new(&weight, inputs, outputs, Half::F16))),
                ("int4", form(count, || Int4Matrix::new(&weight, inputs, outputs))),
                ("int8", form(count, || Int8Matrix::new(&weight, inputs, outputs))),
                ("int8, grouped", form(count, || Int8Matrix::grouped(&weight, inputs, outputs))),
            ];
            for rows in [1, 8, 32, 128] {
                let (input, mut out) = (numbers(rows * inputs), vec![0.0; rows * outputs]);
                let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
                for _ in 0..ROUNDS {
                    for (name, run) in &forms {
                        let start = Instant::now();
                        run(&input, &mut out, threads);
                        times.entry(name).or_default().push(start.elapsed().as_secs_f64() * 1e3 / count as f64);
                    }
                }
                let median = |mut times: Vec<f64>| {
                    times.sort_by(f64::total_cmp);
                    (times[times.len() / 2] * 1e4).round() / 1e4
                };
                let medians: BTreeMap<&str, f64> =
                    times.into_iter().map(|(name, times)| (name, median(times))).collect();
                println!("{}", json!({ "rows": rows, "inputs": inputs, "outputs": outputs, "ms": medians }));
            }
        }
    });
}
