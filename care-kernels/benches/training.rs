//! Times the kernels of a training step: a linear layer's and attention's forward and backward passes.
//!
//! ```text
//! cargo bench -p care-kernels --bench training
//! ```
//!
//! Prints one JSON object per case: the median over the rounds of each kernel's time in milliseconds, and the GFLOP/s of
//! its matmuls. Rounds take turns between the kernels, so that a busy machine slows all of them. With one thread it is
//! processor time where the system tells it (Linux), else wall time.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use care_kernels::{
    Activation, AttentionHeads, F32Matrix, Matmul, attention_backward, attention_with_log_sum_exp, matmul,
    weight_gradient,
};
use serde_json::json;

const ROUNDS: usize = 7;

/// Seconds per measurement; a kernel is repeated until then.
const SPAN: f64 = 0.1;

/// Numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// A kernel to time: its name, its floating-point operations, and the work.
type Timed<'a> = (&'static str, f64, Box<dyn FnMut() + 'a>);

/// Seconds since some moment: of processor time if there is one thread.
fn clock(threads: usize, begin: Instant) -> f64 {
    let own = if threads == 1 { std::fs::read_to_string("/proc/thread-self/schedstat").ok() } else { None };
    let nanoseconds = own.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| begin.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

/// Runs the kernels in turns and prints their medians.
fn report(case: serde_json::Value, threads: usize, mut kernels: Vec<Timed<'_>>) {
    let begin = Instant::now();
    let mut times = vec![Vec::new(); kernels.len()];
    let mut repeats = vec![1; kernels.len()];
    for round in 0..=ROUNDS {
        for (((_, _, work), times), repeats) in kernels.iter_mut().zip(&mut times).zip(&mut repeats) {
            let start = clock(threads, begin);
            (0..*repeats).for_each(|_| work());
            let spent = (clock(threads, begin) - start) / f64::from(*repeats);
            match round {
                // Warms up. The processor time that the system tells is some milliseconds old.
                0 => *repeats = (SPAN / spent.max(1e-3)).ceil() as u32,
                _ => times.push(spent),
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
        threads,
        vec![
            ("forward", operations, Box::new(forward)),
            ("forward, gelu", operations, Box::new(with_gelu)),
            ("input gradient", operations, Box::new(input_gradient)),
            ("weight gradient", operations, Box::new(dw)),
            ("pack transposed", 0.0, Box::new(pack)),
        ],
    );
}

fn attend(texts: usize, length: usize, head_dim: usize, threads: usize) {
    let shape = AttentionHeads { heads: 12, kv_heads: 12, head_dim, causal: false, reach: None, scale: 0.125 };
    let size = texts * length * shape.heads * head_dim;
    let [query, key, value, gradient] = [0, 1, 2, 3].map(|skipped| numbers(size + skipped).split_off(skipped));
    let spans: Vec<(usize, usize)> = (0..texts).map(|text| (text * length, (text + 1) * length)).collect();
    let (out, logs) = attention_with_log_sum_exp(&query, &key, &value, &spans, shape, None, threads);
    let operations = 4.0 * (size * length) as f64;
    let forward = || {
        black_box(attention_with_log_sum_exp(&query, &key, &value, &spans, shape, None, threads));
    };
    let backward = || {
        let gradients = attention_backward(&query, &key, &value, None, &out, &logs, &gradient, &spans, shape, threads);
        black_box(gradients);
    };
    report(
        json!({ "texts": texts, "length": length, "heads": shape.heads, "head_dim": head_dim, "threads": threads }),
        threads,
        vec![
            ("attention", operations, Box::new(forward)),
            ("attention backward", 2.5 * operations, Box::new(backward)),
        ],
    );
}

fn main() {
    for threads in [1, rayon::current_num_threads()] {
        for (tokens, inputs, outputs) in
            [(1024, 384, 384), (1024, 384, 1536), (1024, 1536, 384), (1024, 768, 3072), (4096, 3072, 768)]
        {
            rayon::scope(|_| linear(tokens, inputs, outputs, threads));
        }
        for (texts, length, head_dim) in [(8, 128, 32), (8, 128, 64), (2, 512, 64), (1, 8192, 64)] {
            rayon::scope(|_| attend(texts, length, head_dim, threads));
        }
    }
}
