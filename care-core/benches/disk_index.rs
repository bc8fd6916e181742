//! Times the index on disk against [`FlatIndex`] in memory.
//!
//! ```text
//! cargo bench -p care-core --features f16 --bench disk_index -- 200000 384
//! ```
//!
//! Rows and dimensions are arguments, by default 1,000,000 x 768. The vectors are random in 64 latent dimensions plus noise,
//! and a query is near a document, since vectors of models lie near a subspace too. Prints one JSON object per measurement:
//! the seconds of the fastest of five searches for the 10 best documents and their mean CPU seconds (which tell more on a busy
//! machine), with 1 query and with 100, how often that is those of `FlatIndex`, recall@10, and the growth of the process's peak memory.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use care_core::Embeddings;
use care_core::index::{
    Codes, DiskIndex, DiskIndexOptions, DocumentTower, Filter, FlatIndex, Hit, IndexWriter, Record, SearchOptions,
    VectorFormat,
};
use ndarray::{Array2, Axis};
use serde_json::json;

const LATENT: usize = 64;
const K: usize = 10;
/// Vectors added per call.
const PART: usize = 10_000;
const DEPARTMENTS: usize = 2;

struct Random(u64);

impl Random {
    /// Nearly normal: a sum of uniform numbers.
    fn next(&mut self) -> f32 {
        let mut uniform = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        uniform() + uniform() + uniform() + uniform()
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, columns), || self.next())
    }

    /// Vectors of length 1 of these latent ones.
    fn vectors(&mut self, latent: &Array2<f32>, basis: &Array2<f32>) -> Embeddings {
        let noise = self.matrix(latent.nrows(), basis.ncols());
        let mut vectors = latent.dot(basis) + noise * 2.0;
        for mut row in vectors.axis_iter_mut(Axis(0)) {
            let length = row.dot(&row).sqrt();
            row /= length;
        }
        vectors.into()
    }
}

/// The process's peak memory in MB; 0 if the system does not report it.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// The process's CPU seconds, in steps of 0.01; 0 if the system does not report them.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The seconds of the fastest of five searches, the CPU seconds of each on average, and what the last one found.
fn fastest<T>(mut search: impl FnMut() -> T) -> (f64, f64, T) {
    let (mut best, mut last, cpu_before) = (f64::INFINITY, None, cpu());
    for _ in 0..5 {
        let start = Instant::now();
        last = Some(search());
        best = best.min(start.elapsed().as_secs_f64());
    }
    (best, (cpu() - cpu_before) / 5.0, last.unwrap())
}

fn recall(found: &[Vec<Hit>], expected: &[Vec<Hit>]) -> f64 {
    let all: usize = expected.iter().map(Vec::len).sum();
    let common = |(found, expected): (&Vec<Hit>, &Vec<Hit>)| {
        expected.iter().filter(|hit| found.iter().any(|other| other.index == hit.index)).count()
    };
    found.iter().zip(expected).map(common).sum::<usize>() as f64 / all as f64
}

/// Writes the index, and returns the vectors in memory and 100 queries.
fn build(folder: &Path, rows: usize, dim: usize, vectors: VectorFormat) -> (FlatIndex, Embeddings) {
    let (mut random, tower) = (Random(42), DocumentTower::new("bench"));
    let options = DiskIndexOptions::default().with_vectors(vectors).with_codes([Codes::Int8, Codes::Binary]);
    let mut writer = IndexWriter::create(folder, &tower, dim, &options).unwrap();
    let mut addition = writer.addition(&tower).unwrap();
    let mut flat = FlatIndex::with_capacity(dim, rows, VectorFormat::F32);
    let basis = random.matrix(LATENT, dim);
    let mut queries = Array2::zeros((0, dim));
    for start in (0..rows).step_by(PART) {
        let n = PART.min(rows - start);
        let latent = random.matrix(n, LATENT);
        let part = random.vectors(&latent, &basis);
        let record = |row: usize| {
            Record::new(format!("d{row}"))
                .with_text(format!("document {row}"))
                .with_field("department", format!("department {}", row % DEPARTMENTS))
                .with_field("row", row)
        };
        addition.push(&(start..start + n).map(record).collect::<Vec<_>>(), &part).unwrap();
        flat.add(&part).unwrap();
        if queries.nrows() < 100 {
            let near =
                latent.slice_axis(Axis(0), (0..n.min(100)).into()).to_owned() + random.matrix(n.min(100), LATENT) * 0.5;
            queries.append(Axis(0), random.vectors(&near, &basis).as_array().view()).unwrap();
        }
    }
    addition.commit().unwrap();
    (flat, queries.slice_axis(Axis(0), (0..100).into()).to_owned().into())
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let (rows, dim) = (numbers.next().unwrap_or(1_000_000), numbers.next().unwrap_or(768));
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = place.path().join("index");
    let start = Instant::now();
    let (flat, queries) = build(&folder, rows, dim, VectorFormat::F32);
    println!("{}", json!({ "rows": rows, "dim": dim, "build_s": start.elapsed().as_secs_f64() }));
    let (open, _, index) = fastest(|| DiskIndex::open(&folder).unwrap());
    println!("{}", json!({ "open_s": open, "disk_mb": index.bytes() / 1_000_000 }));
    let one = Embeddings::from(queries.as_array().slice_axis(Axis(0), (0..1).into()).to_owned());
    for (name, queries) in [("1 query", &one), ("100 queries", &queries)] {
        let (flat_s, flat_cpu, expected) = fastest(|| flat.search(queries, K).unwrap());
        println!("{}", json!({ "search": name, "index": "FlatIndex f32", "s": flat_s, "cpu_s": flat_cpu }));
        for (precision, codes, oversampling) in [
            ("exact", None, None),
            ("int8", Some(Codes::Int8), None),
            ("binary", Some(Codes::Binary), None),
            ("binary", Some(Codes::Binary), Some(50)),
        ] {
            let mut options = SearchOptions::new(K);
            (options.codes, options.oversampling) = (codes, oversampling);
            let before = peak();
            let (s, cpu_s, found) = fastest(|| index.search(queries, &options).unwrap());
            let recall = recall(&found, &expected);
            let (times, times_cpu) = (flat_s / s, flat_cpu / cpu_s);
            println!(
                "{}",
                json!({ "search": name, "index": precision, "oversampling": oversampling, "s": s, "cpu_s": cpu_s,
                "times_flat": times, "times_flat_cpu": times_cpu, "recall@10": recall, "peak_growth_mb": peak() - before })
            );
            if oversampling.is_some() {
                continue;
            }
            for (selected, filter) in [
                (0.5, json!({ "department": "department 0" })),
                (0.01, json!({ "row": { "$lt": rows / 100 } })),
                (0.0001, json!({ "row": { "$in": (0..rows / 10_000).map(|n| n * 9973 % rows).collect::<Vec<_>>() } })),
            ] {
                let options = options.clone().with_filter(Filter::from_json(&filter).unwrap());
                let (filtered, filtered_cpu, _) = fastest(|| index.search(queries, &options).unwrap());
                println!(
                    "{}",
                    json!({ "search": name, "index": precision, "filter": selected, "s": filtered, "cpu_s": filtered_cpu, "times_unfiltered": s / filtered })
                );
            }
        }
    }
}
