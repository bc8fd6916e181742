//! Time and memory to read and score a large run; `throughput_peer.py` is the same with pytrec_eval.
//!
//! ```text
//! cargo bench -p care-eval --bench throughput -- FOLDER
//! python3 care-eval/benches/throughput_peer.py FOLDER
//! ```
//!
//! The first command writes `qrels.txt` and `run.txt` to FOLDER unless they exist: 10,000 queries with 1,000 retrieved
//! and 20 judged documents each. Each command prints one JSON object: seconds to read both files, seconds to score them,
//! and the process's peak memory in MB.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use care_eval::io::{read_qrels, read_run};
use care_eval::{Evaluator, Measure, Missing};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const QUERIES: usize = 10_000;
const RETRIEVED: usize = 1_000;
const JUDGED: usize = 20;
const MEASURES: [&str; 6] = ["ndcg@10", "ndcg", "map", "mrr", "recall@100", "precision@10"];

fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut qrels = BufWriter::new(File::create(folder.join("qrels.txt")).unwrap());
    let mut run = BufWriter::new(File::create(folder.join("run.txt")).unwrap());
    for query in 0..QUERIES {
        // A stride through a prime number of documents visits each once.
        let (start, stride) = (rng.random_range(0..1_000_003), rng.random_range(1..1_000_003));
        let document = |place: usize| format!("D{:07}", (start + place * stride) % 1_000_003);
        let mut scores: Vec<f32> = (0..RETRIEVED).map(|_| rng.random_range(0.0..30.0)).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        for (place, score) in scores.iter().enumerate() {
            writeln!(run, "q{query} Q0 {} {} {score:.4} bench", document(place), place + 1).unwrap();
        }
        for judged in 0..JUDGED {
            // Three quarters of them are in the run, mostly at high ranks.
            writeln!(qrels, "q{query} 0 {} {}", document(5 * judged * judged), (judged + 1) % 4).unwrap();
        }
    }
    qrels.flush().unwrap();
    run.flush().unwrap();
}

/// The process's peak memory in MB; 0 if the system does not report it.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn main() {
    // Cargo passes `--bench` too.
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = PathBuf::from(folder.expect("usage: cargo bench -p care-eval --bench throughput -- FOLDER"));
    if !folder.join("run.txt").exists() {
        write(&folder);
    }
    let measures: Vec<Measure> = MEASURES.iter().map(|name| name.parse().unwrap()).collect();
    let start = Instant::now();
    let (qrels, run) = (read_qrels(folder.join("qrels.txt")).unwrap(), read_run(folder.join("run.txt")).unwrap());
    let read = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let evaluation = Evaluator::new(measures).missing(Missing::Zero).evaluate(&qrels, &run).unwrap();
    let scored = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "read_s": read, "score_s": scored, "peak_mb": peak(), "queries": evaluation.queries,
            "measures": evaluation.measures,
        })
    );
}
