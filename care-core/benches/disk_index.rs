//! Measures the index on disk beside [`FlatIndex`] in memory; `disk_index_peer.py` measures faiss and usearch in turns with it.
//!
//! ```text
//! cargo bench -p care-core --features simd,approximate --bench disk_index -- 1000000 768
//! cargo bench -p care-core --features simd,approximate --bench disk_index -- 1000000 384 documents.npy queries.npy
//! ```
//!
//! The vectors are random in 64 latent dimensions plus noise, and a query is near a document, since vectors of models lie near a
//! subspace too. With files (`care embed` writes them), a vector is one of the documents', again and again, plus noise of 0.4
//! times its length, and the queries are those of the file.
//!
//! Prints one JSON object per measurement. First, with nothing but the index: the seconds of opening, and how much searching
//! raised the process's peak memory. Then `FlatIndex` and every way of searching take turns, five rounds, with 1 query and
//! with 100, for the 10 best documents: the seconds of the fastest search, the mean CPU seconds, what `FlatIndex` takes as a
//! multiple of each, and recall@10. Then every filter and no filter take turns.
//!
//! `--graph` builds the graphs for approximate search and measures it too. `--folder DIR` keeps the index there, or uses the one
//! that is there. `--serve` does not measure: it reads the name of a way of searching and a number of queries per line, and answers
//! with the seconds and the rows found.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use care_core::Embeddings;
use care_core::index::{
    Codes, DiskIndex, DiskIndexOptions, DocumentTower, Filter, FlatIndex, Hit, IndexWriter, Record, SearchOptions,
    VectorFormat,
};
use ndarray::{Array2, Axis};
use serde_json::{Value, json};

mod npy;
use npy::read_npy;

const LATENT: usize = 64;
const K: usize = 10;
const QUERIES: usize = 100;
const ROUNDS: usize = 5;
/// Vectors added per call.
const PART: usize = 10_000;
/// The length of the noise that is added to a vector of length 1 of a file.
const NOISE: f32 = 0.4;

struct Random(u64);

impl Random {
    /// Nearly normal, with a variance of a third: a sum of uniform numbers.
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
}

/// Where vectors come from.
enum Source {
    /// Latent dimensions to all.
    Latent(Array2<f32>),
    /// Vectors of documents, and of queries.
    Files(Array2<f32>, Array2<f32>),
}

impl Source {
    /// Vectors of length 1 from row `start` on, and queries near the first.
    fn vectors(&self, random: &mut Random, start: usize, rows: usize) -> (Embeddings, Option<Embeddings>) {
        match self {
            Self::Latent(basis) => {
                let latent = random.matrix(rows, LATENT);
                let vectors = latent.dot(basis) + random.matrix(rows, basis.ncols()) * 2.0;
                let queries = (start == 0).then(|| {
                    let near = latent.slice_axis(Axis(0), (0..QUERIES).into()).to_owned();
                    let near = near + random.matrix(QUERIES, LATENT) * 0.5;
                    normalized(near.dot(basis) + random.matrix(QUERIES, basis.ncols()) * 2.0)
                });
                (normalized(vectors), queries)
            }
            Self::Files(documents, queries) => {
                let mut vectors = random.matrix(rows, documents.ncols());
                vectors *= NOISE * (3.0 / documents.ncols() as f32).sqrt();
                for (row, mut vector) in (start..).zip(vectors.rows_mut()) {
                    vector += &documents.row(row % documents.nrows());
                }
                let first = queries.slice_axis(Axis(0), (0..QUERIES).into()).to_owned();
                (normalized(vectors), (start == 0).then(|| normalized(first)))
            }
        }
    }
}

fn normalized(mut vectors: Array2<f32>) -> Embeddings {
    for mut row in vectors.axis_iter_mut(Axis(0)) {
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    vectors.into()
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

fn recall(found: &[Vec<Hit>], expected: &[Vec<Hit>]) -> f64 {
    let all: usize = expected.iter().map(Vec::len).sum();
    let common = |(found, expected): (&Vec<Hit>, &Vec<Hit>)| {
        expected.iter().filter(|hit| found.iter().any(|other| other.index == hit.index)).count()
    };
    found.iter().zip(expected).map(common).sum::<usize>() as f64 / all as f64
}

/// Writes the index and its queries.
fn build(folder: &Path, rows: usize, dim: usize, source: &Source) {
    let (mut random, tower) = (Random(42), DocumentTower::new("bench"));
    let options = DiskIndexOptions::default().with_codes([Codes::Int8, Codes::Binary]);
    let mut writer = IndexWriter::create(folder.join("index"), &tower, dim, &options).unwrap();
    let mut addition = writer.addition(&tower).unwrap();
    for start in (0..rows).step_by(PART) {
        let n = PART.min(rows - start);
        let (part, queries) = source.vectors(&mut random, start, n);
        let record = |row: usize| {
            Record::new(format!("d{row}"))
                .with_text(format!("document {row}"))
                .with_field("half", row.is_multiple_of(2))
                .with_field("row", row)
        };
        addition.push(&(start..start + n).map(record).collect::<Vec<_>>(), &part).unwrap();
        if let Some(queries) = queries {
            let values = queries.as_array().iter();
            fs::write(folder.join("queries"), values.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        }
    }
    addition.commit().unwrap();
}

/// A way of searching: `None` is [`FlatIndex`].
type Way = (&'static str, Option<SearchOptions>);

fn ways(with_graph: bool) -> Vec<Way> {
    let search = || SearchOptions::new(K);
    let mut ways = vec![
        ("flat", None),
        ("exact", Some(search())),
        ("int8", Some(search().with_codes(Codes::Int8))),
        ("binary", Some(search().with_codes(Codes::Binary))),
        ("binary-50", Some(search().with_codes(Codes::Binary).with_oversampling(50))),
    ];
    if with_graph {
        ways.push(("graph-64", Some(search().with_approximate().with_expansion(64))));
        ways.push(("graph-256", Some(search().with_approximate().with_expansion(256))));
    }
    ways
}

struct Bench {
    flat: Option<FlatIndex>,
    index: DiskIndex,
    queries: Embeddings,
}

/// What the rounds of one way showed.
#[derive(Clone, Default)]
struct Turns {
    fastest: f64,
    cpu: f64,
    found: Vec<Vec<Hit>>,
}

impl Bench {
    fn queries(&self, count: usize) -> Embeddings {
        self.queries.as_array().slice_axis(Axis(0), (0..count).into()).to_owned().into()
    }

    fn search(&self, way: &Option<SearchOptions>, queries: &Embeddings) -> Vec<Vec<Hit>> {
        match (way, &self.flat) {
            (Some(options), _) => self.index.search(queries, options).unwrap(),
            (None, Some(flat)) => flat.search(queries, K).unwrap(),
            (None, None) => unreachable!("the vectors are in memory"),
        }
    }

    /// Lets the ways take turns.
    fn turns(&self, ways: &[Option<SearchOptions>], queries: &Embeddings) -> Vec<Turns> {
        let mut turns = vec![Turns { fastest: f64::INFINITY, ..Turns::default() }; ways.len()];
        for _ in 0..ROUNDS {
            for (way, turns) in ways.iter().zip(&mut turns) {
                let (start, before) = (Instant::now(), cpu());
                turns.found = self.search(way, queries);
                turns.fastest = turns.fastest.min(start.elapsed().as_secs_f64());
                turns.cpu += (cpu() - before) / ROUNDS as f64;
            }
        }
        turns
    }

    fn measure(&self, ways: &[Way], count: usize) {
        let queries = self.queries(count);
        let turns = self.turns(&ways.iter().map(|(_, way)| way.clone()).collect::<Vec<_>>(), &queries);
        for ((name, _), way) in ways.iter().zip(&turns) {
            print(json!({ "queries": count, "search": name, "s": way.fastest, "cpu_s": way.cpu,
                "times_flat": turns[0].fastest / way.fastest, "times_flat_cpu": turns[0].cpu / way.cpu,
                "recall@10": recall(&way.found, &turns[0].found) }));
        }
    }

    fn measure_filters(&self, ways: &[Way], count: usize) {
        let (queries, rows) = (self.queries(count), self.index.len());
        let few: Vec<usize> = (0..rows / 10_000).map(|n| n * 9973 % rows).collect();
        let filters = [
            ("50 %", json!({ "half": true })),
            ("1 %", json!({ "row": { "$lt": rows / 100 } })),
            ("0.01 %", json!({ "row": { "$in": few } })),
        ];
        for (name, way) in ways {
            let Some(options) = way else { continue };
            let filtered = filters.iter().map(|(_, filter)| Filter::from_json(filter).unwrap());
            let filtered = filtered.map(|filter| Some(options.clone().with_filter(filter)));
            let turns =
                self.turns(&std::iter::once(Some(options.clone())).chain(filtered).collect::<Vec<_>>(), &queries);
            for ((filter, _), with) in filters.iter().zip(&turns[1..]) {
                print(
                    json!({ "queries": count, "search": name, "filter": filter, "s": with.fastest, "cpu_s": with.cpu,
                    "times_unfiltered": turns[0].fastest / with.fastest }),
                );
            }
        }
    }

    /// Answers lines of a way's name and a number of queries.
    fn serve(&self, ways: &[Way]) {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            let (name, count) = line.split_once(' ').unwrap();
            let way = &ways.iter().find(|way| way.0 == name).unwrap().1;
            let queries = self.queries(count.parse().unwrap());
            let start = Instant::now();
            let found = self.search(way, &queries);
            let s = start.elapsed().as_secs_f64();
            let rows: Vec<Vec<usize>> = found.iter().map(|hits| hits.iter().map(|hit| hit.index).collect()).collect();
            print(json!({ "s": s, "rows": rows }));
        }
    }
}

fn print(line: Value) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Builds the graphs, whose loss is measured by the queries.
#[cfg(feature = "approximate")]
fn link(folder: &Path, queries: &Embeddings) {
    use care_core::index::{GraphOptions, LossSample};
    let (start, cpu_before) = (Instant::now(), cpu());
    let mut writer = IndexWriter::open(folder).unwrap();
    let built = writer.build_graphs(&GraphOptions::default(), LossSample::Queries, queries).unwrap();
    print(json!({ "graph_s": start.elapsed().as_secs_f64(), "graph_cpu_s": cpu() - cpu_before, "peak_mb": peak(),
        "loss": built.loss }));
}

#[cfg(not(feature = "approximate"))]
fn link(_folder: &Path, _queries: &Embeddings) {
    unreachable!("--graph needs the feature `approximate`");
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut take = |name: &str| arguments.iter().position(|argument| argument == name).map(|at| arguments.remove(at));
    let (serve, graph) = (take("--serve").is_some(), take("--graph").is_some());
    let folder = arguments.iter().position(|argument| argument == "--folder").map(|at| {
        arguments.remove(at);
        PathBuf::from(arguments.remove(at))
    });
    let number = |at: usize| arguments.get(at).and_then(|argument| argument.parse::<usize>().ok());
    let (rows, dim) = (number(0).unwrap_or(1_000_000), number(1).unwrap_or(768));
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = folder.unwrap_or_else(|| place.path().to_owned());
    if !folder.join("queries").exists() {
        fs::create_dir_all(&folder).unwrap();
        let source = match (arguments.get(2), arguments.get(3)) {
            (Some(documents), Some(queries)) => {
                Source::Files(read_npy(Path::new(documents)), read_npy(Path::new(queries)))
            }
            _ => Source::Latent(Random(7).matrix(LATENT, dim)),
        };
        let start = Instant::now();
        build(&folder, rows, dim, &source);
        print(json!({ "rows": rows, "dim": dim, "build_s": start.elapsed().as_secs_f64() }));
    }
    let queries = fs::read(folder.join("queries")).unwrap();
    let queries: Vec<f32> = queries.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let queries = Embeddings::from(Array2::from_shape_vec((QUERIES, dim), queries).unwrap());
    let path = folder.join("index");
    if graph && DiskIndex::open(&path).unwrap().approximation().is_none() {
        link(&path, &queries);
    }
    let opening = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        DiskIndex::open(&path).unwrap();
        start.elapsed().as_secs_f64()
    });
    let open_s = opening.fold(f64::INFINITY, f64::min);
    let (start, index) = (Instant::now(), DiskIndex::open(&path).unwrap());
    let mut bench = Bench { flat: None, index, queries };
    print(
        json!({ "open_s": open_s, "disk_mb": bench.index.bytes() / 1_000_000, "vectors_mb": rows * dim * 4 / 1_000_000 }),
    );
    let ways = ways(graph);
    let before = peak();
    for count in [1, QUERIES] {
        for (name, way) in ways.iter().filter(|(_, way)| way.is_some()) {
            let found = bench.search(way, &bench.queries(count));
            print(json!({ "queries": count, "search": name, "peak_growth_mb": peak() - before, "found": found.len() }));
        }
    }
    print(json!({ "first_searches_s": start.elapsed().as_secs_f64() }));
    let mut flat = FlatIndex::with_capacity(dim, rows, VectorFormat::F32);
    for part in bench.index.rows().collect::<Vec<_>>().chunks(PART) {
        flat.add(&bench.index.vectors(part).unwrap()).unwrap();
    }
    bench.flat = Some(flat);
    if serve {
        return bench.serve(&ways);
    }
    for count in [1, QUERIES] {
        bench.measure(&ways, count);
        bench.measure_filters(&ways, count);
    }
}
