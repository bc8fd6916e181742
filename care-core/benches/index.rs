//! Times exact search over a million vectors; `index_peer.py` measures faiss for comparison.
//!
//! ```text
//! cargo bench -p care-core --features f16,simd --bench index
//! python3 care-core/benches/index_peer.py
//! ```
//!
//! 1,000,000 random vectors of 768 dimensions, 1 query and 100, the 100 best documents each. Prints one JSON object per
//! dtype and number of queries: the seconds of the fastest of five searches, and the size of the vectors and the process's peak
//! memory in MB.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs;
use std::time::Instant;

use care_core::Embeddings;

use care_core::index::{FlatIndex, VectorFormat};
use ndarray::Array2;

const DOCUMENTS: usize = 1_000_000;
const DIM: usize = 768;
const QUERIES: usize = 100;
const K: usize = 100;
/// Vectors added per call.
const PART: usize = 10_000;

/// Pseudorandom vectors by xorshift, which is fast and good enough.
fn vectors(rows: usize, state: &mut u64) -> Embeddings {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    Array2::from_shape_simple_fn((rows, DIM), &mut next).into()
}

/// The process's peak memory in MB; 0 if the system does not report it.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn main() {
    // The smaller dtype first, since the peak never falls.
    for (name, format, bytes) in [("f16", VectorFormat::F16, 2), ("f32", VectorFormat::F32, 4)] {
        let mut state = 42;
        let queries = vectors(QUERIES, &mut state);
        let mut index = FlatIndex::with_capacity(DIM, DOCUMENTS, format);
        for _ in 0..DOCUMENTS / PART {
            index.add(&vectors(PART, &mut state)).unwrap();
        }
        let one = Embeddings::from_rows(DIM, [queries.row(0).to_vec()]).unwrap();
        for queries in [&one, &queries] {
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let start = Instant::now();
                let found = index.search(queries, K).unwrap();
                best = best.min(start.elapsed().as_secs_f64());
                assert!(found.len() == queries.len() && found.iter().all(|hits| hits.len() == K));
            }
            let (count, vectors) = (queries.len(), DOCUMENTS * DIM * bytes / 1_000_000);
            println!(
                "{{\"format\":\"{name}\",\"queries\":{count},\"search_s\":{best:.4},\"vectors_mb\":{vectors},\"peak_mb\":{}}}",
                peak()
            );
        }
    }
}
