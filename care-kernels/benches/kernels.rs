//! Times each CPU kernel of a BERT forward pass.
//!
//! ```text
//! cargo bench -p care-kernels --bench kernels
//! ```
//!
//! Twelve layers with random weights in the sizes of multilingual-e5-small and BERT-base, run on one text of 8 to 512
//! tokens and on mixed batches. Prints one JSON object per case: for each kind of kernel, the median over 15 rounds of
//! its time in all layers together, in milliseconds.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::time::Instant;

use care_kernels::{
    Activation, AttentionHeads, F32Matrix, Int8Matrix, Matmul, PackedWeight, attention, layer_norm, matmul,
};
use serde_json::json;

const LAYERS: usize = 12;
const ROUNDS: usize = 15;

/// Numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

struct Layer<W> {
    /// Query, key, value.
    into: [W; 3],
    out: W,
    up: W,
    down: W,
}

impl<W: PackedWeight> Layer<W> {
    fn new(width: usize, pack: fn(&[f32], usize, usize) -> W) -> Self {
        let weight = |inputs: usize, outputs: usize| pack(&numbers(inputs * outputs), inputs, outputs);
        Self {
            into: std::array::from_fn(|_| weight(width, width)),
            out: weight(width, width),
            up: weight(width, 4 * width),
            down: weight(4 * width, width),
        }
    }
}

fn run<W: PackedWeight>(name: &str, width: usize, lengths: &[usize], pack: fn(&[f32], usize, usize) -> W) {
    let threads = rayon::current_num_threads();
    let layers: Vec<Layer<W>> = (0..LAYERS).map(|_| Layer::new(width, pack)).collect();
    let tokens: usize = lengths.iter().sum();
    let mut end = 0;
    let span = |length: &usize| {
        end += length;
        (end - length, end)
    };
    let spans: Vec<(usize, usize)> = lengths.iter().map(span).collect();
    let heads =
        AttentionHeads { heads: 12, kv_heads: 12, head_dim: width / 12, causal: false, reach: None, scale: 0.125 };
    let (ones, bias) = (vec![1.0; 4 * width], numbers(4 * width));
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..ROUNDS + 2 {
        let mut spent: BTreeMap<&str, f64> = BTreeMap::new();
        let mut timed = |what: &'static str, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            *spent.entry(what).or_default() += start.elapsed().as_secs_f64() * 1e3;
        };
        let mut states = numbers(tokens * width);
        for layer in &layers {
            let mut projected = [(); 3].map(|()| vec![0.0; tokens * width]);
            timed("query, key, value", &mut || {
                let products = layer.into.iter().zip(&mut projected);
                let products =
                    products.map(|(weight, out)| Matmul { bias: Some(&bias[..width]), ..Matmul::new(weight, out) });
                matmul(&states, products.collect(), threads);
            });
            let mut attended = Vec::new();
            timed("attention", &mut || {
                attended = attention(&projected[0], &projected[1], &projected[2], &spans, heads, None, threads)
            });
            let mut linear = |what, weight: &W, input: &[f32], activation| {
                let mut out = vec![0.0; tokens * weight.outputs()];
                let bias = Some(&bias[..weight.outputs()]);
                timed(what, &mut || {
                    matmul(input, vec![Matmul { bias, activation, ..Matmul::new(weight, &mut out) }], threads)
                });
                out
            };
            let mixed = linear("output", &layer.out, &attended, None);
            let (norm, shift) = (&ones[..width], &bias[..width]);
            let inner = linear("up, gelu", &layer.up, &states, Some(Activation::Gelu));
            let outer = linear("down", &layer.down, &inner, None);
            timed("norms", &mut || layer_norm(&mut states, Some(&mixed), norm, shift, 1e-12, threads));
            timed("norms", &mut || layer_norm(&mut states, Some(&outer), norm, shift, 1e-12, threads));
        }
        // The first rounds warm up.
        if round >= 2 {
            for (what, spent) in spent {
                times.entry(what).or_default().push(spent);
            }
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2] * 1000.0).round() / 1000.0
    };
    let medians: BTreeMap<&str, f64> = times.into_iter().map(|(what, values)| (what, median(values))).collect();
    let sum = (medians.values().sum::<f64>() * 1000.0).round() / 1000.0;
    let texts = if lengths.len() == 1 { json!(lengths[0]) } else { json!(lengths) };
    println!("{}", json!({ "weights": name, "width": width, "tokens": texts, "ms": medians, "sum_ms": sum }));
}

fn main() {
    let mixed: [&[usize]; 2] = [&[8, 16, 24, 32, 48, 64, 96, 224], &[12; 32]];
    let cases = [8, 16, 32, 128, 512].map(|tokens| vec![tokens]).into_iter().chain(mixed.map(<[usize]>::to_vec));
    let cases: Vec<Vec<usize>> = cases.collect();
    for width in [384, 768] {
        for lengths in &cases {
            // As in a forward pass, the caller is a thread of rayon's pool.
            rayon::scope(|_| {
                run("f32", width, lengths, F32Matrix::new);
                run("int8", width, lengths, Int8Matrix::new);
            });
        }
    }
}
