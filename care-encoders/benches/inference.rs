//! How long a forward pass takes on the CPU, beside PyTorch and ONNX Runtime: `inference_peer.py` times the same shapes.
//!
//! ```text
//! cargo bench --workspace --bench inference -- shapes FOLDER
//! ```
//!
//! FOLDER is a Hugging Face folder. Prints one JSON object a line: the median and the fastest of 25 calls, in
//! milliseconds, from token ids to pooled vectors.

use std::path::PathBuf;
use std::time::Instant;

use care_core::layers::Packing;
use care_core::{Device, Network, Query, TokenBatch};
use care_encoders::{AnyEncoder, EncoderOptions, load_tower};

const SHAPES: [(usize, usize); 7] = [(1, 8), (1, 16), (1, 32), (1, 128), (1, 512), (8, 128), (32, 32)];

#[allow(clippy::print_stdout, reason = "a benchmark")]
fn shapes(network: &Network<AnyEncoder>, engine: &str) {
    for (rows, tokens) in SHAPES {
        let ids: Vec<Vec<u32>> = (0..rows)
            .map(|row| (0..tokens).map(|at| 5 + ((row * 7919 + at * 104_729) % 10_000) as u32).collect())
            .collect();
        let batch = TokenBatch::pack(&ids);
        let mut times = Vec::new();
        for _ in 0..28 {
            let start = Instant::now();
            let vectors = network.forward(&batch).into_data();
            times.push(start.elapsed().as_secs_f64() * 1e3);
            assert_eq!(vectors.shape().as_slice()[0], rows);
        }
        let mut times = times.split_off(3);
        times.sort_by(f64::total_cmp);
        println!(
            "{{\"engine\": \"{engine}\", \"batch\": {rows}, \"tokens\": {tokens}, \"median_ms\": {:.2}, \"min_ms\": {:.2}}}",
            times[times.len() / 2],
            times[0]
        );
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [what, folder] = words.as_slice() else {
        return Err("usage: cargo bench --workspace --bench inference -- shapes FOLDER".into());
    };
    let device = Device::Cpu.open()?;
    let tower = load_tower::<Query>(&PathBuf::from(folder), &EncoderOptions::default(), &device)?;
    let network = tower.network().clone();
    match what.as_str() {
        "shapes" => {
            shapes(&network.clone().packed(Packing::F32), "care-f32");
            shapes(&network.packed(Packing::Int8), "care-int8");
        }
        other => return Err(format!("unknown: {other}").into()),
    }
    Ok(())
}
