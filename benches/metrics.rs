//! Instruction counts of care-eval under Valgrind's Callgrind.
//!
//! Runs differ by less than 0.01 %, because hash maps have random seeds, so small changes show.
//!
//! Linux only, and outside CI. Install Valgrind and the runner of the same version as the dependency, then run:
//!
//! ```text
//! apt-get install valgrind
//! cargo install --version 0.20.0 gungraun-runner
//! cargo bench --manifest-path benches/Cargo.toml --bench metrics
//! ```
//!
//! A second run prints the difference to the first. Counts depend on the compiler, the crates in Cargo.lock and the
//! instruction set, so compare runs on one machine.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use care_eval::io::{read_qrels, read_run};
use care_eval::metric::{average_precision, ndcg};
use care_eval::stats::{bootstrap_interval, paired_randomisation_test, spearman};
use care_eval::{Evaluation, Evaluator, Measure, Missing, Qrels, Run, Ties, reciprocal_rank_fusion};
use gungraun::prelude::*;
use rayon::ThreadPoolBuilder;

const QUERIES: usize = 50;
const RETRIEVED: usize = 1_000;
const JUDGED: usize = 20;
/// One more than the number of documents.
const PRIME: usize = 100_003;
const MEASURES: [&str; 6] = ["ndcg@10", "ndcg", "map", "mrr", "recall@100", "precision@10"];

/// Callgrind counts one thread, so everything runs on the calling one.
fn on_this_thread() {
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
}

/// A number that depends on `seed` and `n` alone, below [`PRIME`].
fn scattered(seed: usize, n: usize) -> usize {
    (seed * 7_919 + n * (31 + seed % 97)) % PRIME
}

/// Retrieved documents of a query; every third score is tied with its neighbour.
fn retrieved(query: usize) -> impl Iterator<Item = (String, f32)> {
    (0..RETRIEVED).map(move |n| (format!("D{:06}", scattered(query, n)), 30.0 - (n - n % 3 / 2) as f32 * 0.02))
}

/// Judged documents of a query, about three quarters of them retrieved.
fn judged(query: usize) -> impl Iterator<Item = (String, i32)> {
    (0..JUDGED).map(move |n| (format!("D{:06}", scattered(query, 4 * n * n)), (n as i32 + 1) % 4))
}

fn qrels_and_run() -> (Qrels, Run) {
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    for query in 0..QUERIES {
        let id = format!("q{query}");
        judged(query).for_each(|(document, grade)| qrels.insert(&id, &document, grade).unwrap());
        retrieved(query).for_each(|(document, score)| run.insert(&id, &document, score).unwrap());
    }
    (qrels, run)
}

fn grades() -> (Vec<i32>, Vec<i32>) {
    (
        (0..RETRIEVED as i32).map(|n| (n % 50 == 7) as i32 * (n % 4)).collect(),
        (0..JUDGED as i32).map(|n| n % 4).collect(),
    )
}

#[library_benchmark(setup = grades)]
#[bench::cut()]
fn ndcg_at_10((ranked, judged): (Vec<i32>, Vec<i32>)) -> f64 {
    black_box(ndcg(black_box(&ranked), black_box(&judged), NonZeroUsize::new(10)))
}

#[library_benchmark(setup = grades)]
#[bench::whole()]
fn ndcg_of_1000((ranked, judged): (Vec<i32>, Vec<i32>)) -> f64 {
    black_box(ndcg(black_box(&ranked), black_box(&judged), None))
}

#[library_benchmark(setup = grades)]
#[bench::whole()]
fn average_precision_of_1000((ranked, _): (Vec<i32>, Vec<i32>)) -> f64 {
    black_box(average_precision(black_box(&ranked), JUDGED, None))
}

fn evaluation(ties: Ties) -> (Evaluator, Qrels, Run) {
    on_this_thread();
    let measures = MEASURES.iter().map(|name| name.parse::<Measure>().unwrap());
    let (qrels, run) = qrels_and_run();
    (Evaluator::new(measures).missing(Missing::Zero).ties(ties), qrels, run)
}

#[library_benchmark(setup = evaluation)]
#[bench::trec_eval(Ties::TrecEval)]
#[bench::expected(Ties::Expected)]
fn evaluate((evaluator, qrels, run): (Evaluator, Qrels, Run)) -> Evaluation {
    black_box(evaluator.evaluate(black_box(&qrels), black_box(&run)).unwrap())
}

/// A file of the given lines, in the folder for the benches' files.
fn file(name: &str, lines: impl Fn(&mut String)) -> PathBuf {
    on_this_thread();
    let mut text = String::new();
    lines(&mut text);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

fn trec_run() -> PathBuf {
    file("run.trec", |text| {
        for query in 0..QUERIES {
            for (rank, (document, score)) in retrieved(query).enumerate() {
                writeln!(text, "q{query} Q0 {document} {} {score:.4} bench", rank + 1).unwrap();
            }
        }
    })
}

fn trec_qrels() -> PathBuf {
    file("qrels.trec", |text| {
        for query in 0..QUERIES {
            judged(query).for_each(|(document, grade)| writeln!(text, "q{query} 0 {document} {grade}").unwrap());
        }
    })
}

#[library_benchmark]
#[bench::trec(setup = trec_run)]
fn run_from_file(path: PathBuf) -> Run {
    black_box(read_run(black_box(path)).unwrap())
}

#[library_benchmark]
#[bench::trec(setup = trec_qrels)]
fn qrels_from_file(path: PathBuf) -> Qrels {
    black_box(read_qrels(black_box(path)).unwrap())
}

fn two_runs() -> (Run, Run) {
    let mut other = Run::new();
    for query in 0..QUERIES {
        retrieved(query + 1)
            .for_each(|(document, score)| other.insert(&format!("q{query}"), &document, score).unwrap());
    }
    (qrels_and_run().1, other)
}

#[library_benchmark]
#[bench::two_runs(setup = two_runs)]
fn fusion((one, two): (Run, Run)) -> Run {
    black_box(reciprocal_rank_fusion(black_box(&[&one, &two]), 60.0, Ties::TrecEval).unwrap())
}

fn values() -> (Vec<f64>, Vec<f64>) {
    let values = |seed| (0..500).map(|n| scattered(seed, n) as f64 / PRIME as f64).collect();
    (values(1), values(2))
}

#[library_benchmark(setup = values)]
#[bench::of_500()]
fn bootstrap((values, _): (Vec<f64>, Vec<f64>)) -> f64 {
    black_box(bootstrap_interval(black_box(&values), 0.95, 200, 1).unwrap().low)
}

#[library_benchmark(setup = values)]
#[bench::of_500()]
fn randomisation((first, second): (Vec<f64>, Vec<f64>)) -> f64 {
    black_box(paired_randomisation_test(black_box(&first), black_box(&second), 200, 1).unwrap().p_value)
}

#[library_benchmark(setup = values)]
#[bench::of_500()]
fn rank_correlation((first, second): (Vec<f64>, Vec<f64>)) -> f64 {
    black_box(spearman(black_box(&first), black_box(&second)).unwrap())
}

library_benchmark_group!(name = metrics, benchmarks = [ndcg_at_10, ndcg_of_1000, average_precision_of_1000]);
library_benchmark_group!(name = runs, benchmarks = [evaluate, run_from_file, qrels_from_file, fusion]);
library_benchmark_group!(name = statistics, benchmarks = [bootstrap, randomisation, rank_correlation]);
main!(library_benchmark_groups = [metrics, runs, statistics]);
