//! Times the kernels of a training step: a linear layer's forward pass and its two gradients.
//!
//! ```text
//! cargo bench -p care-kernels --bench training
//! ```
//!
//! Prints one JSON object per case: the median over the rounds of each kernel's time in milliseconds, and the GFLOP/s of
//! its matmuls. Rounds take turns between the kernels, so that a busy machine slows all of them.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use care_kernels::{Activation, F32Matrix, Matmul, matmul, weight_gradient};
use serde_json::json;

const ROUNDS: usize = 9;

/// Numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// A kernel to time: its name, its floating-point operations, and the work.
type Timed<'a> = (&'static str, f64, Box<dyn FnMut() + 'a>);

/// Runs the kernels in turns and prints their medians.
fn report(case: serde_json::Value, mut kernels: Vec<Timed<'_>>) {
    let mut times = vec![Vec::new(); kernels.len()];
    for round in 0..ROUNDS + 2 {
        for ((_, _, work), times) in kernels.iter_mut().zip(&mut times) {
            let start = Instant::now();
            work();
            // The first rounds warm up.
            if round >= 2 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let rounded = |x: f64| (x * 100.0).round() / 100.0;
    let mut result = serde_json::Map::new();
    for ((name, operations, _), mut times) in kernels.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        result
            .insert(name.into(), json!({ "ms": rounded(median * 1e3), "gflops": rounded(operations / median / 1e9) }));
    }
    println!("{}", json!({ "case": case, "kernels": result }));
}

fn linear(tokens: usize, inputs: usize, outputs: usize, threads: usize) {
    let (input, gradient, weight) = (numbers(tokens * inputs), numbers(tokens * outputs), numbers(inputs * outputs));
    let bias = numbers(outputs);
    let (packed, transposed) =
        (F32Matrix::new(&weight, inputs, outputs), F32Matrix::transposed(&weight, inputs, outputs));
    let factor = numbers(tokens * inputs);
    let (mut out, mut activated, mut derivative) =
        (vec![0.0; tokens * outputs], vec![0.0; tokens * outputs], vec![0.0; tokens * outputs]);
    let (mut of_input, mut of_weight, mut of_bias) =
        (vec![0.0; tokens * inputs], vec![0.0; inputs * outputs], vec![0.0; outputs]);
    let operations = 2.0 * (tokens * inputs * outputs) as f64;
    let forward = || {
        let layer = Matmul { bias: Some(&bias), ..Matmul::new(&packed, &mut out) };
        matmul(&input, vec![layer], threads);
    };
    let with_gelu = || {
        let layer = Matmul {
            bias: Some(&bias),
            activation: Some(Activation::Gelu),
            derivative: Some(&mut derivative),
            ..Matmul::new(&packed, &mut activated)
        };
        matmul(&input, vec![layer], threads);
    };
    let input_gradient = || {
        let layer = Matmul { factor: Some(&factor), ..Matmul::new(&transposed, &mut of_input) };
        matmul(&gradient, vec![layer], threads);
    };
    let dw = || {
        weight_gradient(&input, &gradient, inputs, outputs, &mut of_weight, Some(&mut of_bias), threads);
    };
    let pack = || drop(F32Matrix::transposed(&weight, inputs, outputs));
    report(
        json!({ "tokens": tokens, "inputs": inputs, "outputs": outputs, "threads": threads }),
        vec![
            ("forward", operations, Box::new(forward)),
            ("forward, gelu", operations, Box::new(with_gelu)),
            ("input gradient", operations, Box::new(input_gradient)),
            ("weight gradient", operations, Box::new(dw)),
            ("pack transposed", 0.0, Box::new(pack)),
        ],
    );
}

fn main() {
    for threads in [1, rayon::current_num_threads()] {
        for (tokens, inputs, outputs) in [
            (1024, 384, 384),
            (1024, 384, 1536),
            (1024, 1536, 384),
            (4096, 384, 1536),
            (1024, 768, 3072),
            (4096, 3072, 768),
        ] {
            rayon::scope(|_| linear(tokens, inputs, outputs, threads));
        }
    }
}
