//! How long exact search takes over a million vectors, for `index_peer.py` (faiss) to be compared with.
//!
//! ```text
//! cargo bench -p care-core --features f16 --bench index
//! python3 care-core/benches/index_peer.py
//! ```
//!
//! 1,000,000 random vectors of 768 components, the 100 best of 100 queries. Each prints one JSON object a format: the
//! seconds of the search, the best of five, the size of the vectors and the peak of the process's memory in MB.

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
/// Vectors that are added at once.
const PART: usize = 10_000;

/// Vectors that look random; xorshift is enough, and fast.
fn vectors(rows: usize, state: &mut u64) -> Embeddings {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    Array2::from_shape_simple_fn((rows, DIM), &mut next).into()
}

/// The process's largest memory so far, in MB; 0 where the system does not say.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn main() {
    // The smaller format first, since a peak only grows.
    for (name, format, bytes) in [("f16", VectorFormat::F16, 2), ("f32", VectorFormat::F32, 4)] {
        let mut state = 42;
        let queries = vectors(QUERIES, &mut state);
        let mut index = FlatIndex::with_capacity(DIM, DOCUMENTS, format);
        for _ in 0..DOCUMENTS / PART {
            index.add(&vectors(PART, &mut state)).unwrap();
        }
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            let found = index.search(&queries, K).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
            assert!(found.len() == QUERIES && found.iter().all(|hits| hits.len() == K));
        }
        let vectors = DOCUMENTS * DIM * bytes / 1_000_000;
        println!("{{\"format\":\"{name}\",\"search_s\":{best:.3},\"vectors_mb\":{vectors},\"peak_mb\":{}}}", peak());
    }
}
