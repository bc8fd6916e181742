//! Ten million short rows with an embedder that costs nothing: what claims, reading, writing and committing take.
//!
//! ```sh
//! cargo run --release -p care-shard --example ten_million -- FOLDER [ROWS] [DIMENSIONS] [WORKERS]
//! ```
//!
//! Writes a corpus and a job to FOLDER (a folder or, for the job alone, the environment variable JOB with the URL of one),
//! has workers encode it, and prints time and memory of every step. With 10,000 rows a shard, the time per shard is the
//! overhead that a real tower's time per shard is compared with.

#![allow(clippy::print_stdout, reason = "an example")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Role};
use care_shard::{Job, Plan, PlanOptions, Stores, Worker, WorkerOptions};

/// Vectors of the text's length.
struct Cheap(usize);

impl Embedder for Cheap {
    fn embedding_dim(&self) -> usize {
        self.0
    }

    fn embed_queries(&self, _: &[Query]) -> Result<Embeddings> {
        Err(Error::new(ErrorKind::Config, "no queries"))
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        let mut vectors = Embeddings::zeros(documents.len(), self.0);
        for (row, document) in documents.iter().enumerate() {
            vectors.set(row, &vec![document.text().len() as f32; self.0]);
        }
        Ok(vectors)
    }

    fn fingerprint(&self, _: Role) -> Result<Option<String>> {
        Ok(Some("cheap".to_owned()))
    }
}

/// Resident memory and its peak in MB.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let [now, peak] = ["VmRSS:", "VmHWM:"].map(|name| value(name).unwrap_or(f64::NAN) / 1024.0);
    format!("memory {now:.0} MB, peak {peak:.0} MB")
}

fn write_corpus(folder: &Path, rows: usize) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for part in 0..10 {
        let path = folder.join(format!("part-{part}.jsonl"));
        let mut out = BufWriter::new(File::create(path)?);
        for row in (part * rows / 10)..((part + 1) * rows / 10) {
            writeln!(out, "{{\"_id\": \"{row}\", \"text\": \"row {row}{}\"}}", "头痛".repeat(row % 7))?;
        }
        out.flush()?;
    }
    Ok(())
}

fn work(job: &Job, embedder: &Cheap) -> Result<()> {
    let mut worker = Worker::new(job, embedder, WorkerOptions::default())?;
    let mut shown = 0;
    let state = worker.run(&mut |progress| {
        if progress.state.shards >= shown {
            println!("  {} shards, {}", progress.state.shards, memory());
            shown = progress.state.shards + 200;
        }
        ControlFlow::Continue(())
    })?;
    let per_shard = 1000.0 * state.busy_seconds / state.shards.max(1) as f64;
    println!("  a worker: {} shards, {} rows, {per_shard:.1} ms per shard", state.shards, state.rows);
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("a folder is needed")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rows, dim, workers) = (number(10_000_000)?, number(16)?, number(1)?);
    let corpus = Path::new(&folder).join("corpus");
    write_corpus(&corpus, rows)?;
    let place = std::env::var("JOB").unwrap_or(format!("{folder}/job"));
    let (stores, embedder) = (Stores::new()?, Cheap(dim));
    let begin = Instant::now();
    let plan = Plan::new(&stores, &[corpus.display().to_string()], &embedder, &PlanOptions::default())?;
    plan.create(&stores.open(&place)?)?;
    let job = Job::open(&stores, &place)?;
    println!("plan: {} shards in {:.1} s", plan.shards.len(), begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&job, &embedder))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    println!("work: {:.1} s, {}", begin.elapsed().as_secs_f64(), memory());

    let begin = Instant::now();
    let status = job.status(Duration::from_secs(300))?;
    println!("status: {:.2} s, {} of {} shards", begin.elapsed().as_secs_f64(), status.committed, status.shards);
    let begin = Instant::now();
    let found = job.verify(false, &mut |_| ())?;
    println!(
        "verify: {:.1} s, complete: {}, {} bytes",
        begin.elapsed().as_secs_f64(),
        found.is_complete(),
        found.bytes
    );
    for name in ["all.parquet", "all.npy"] {
        let begin = Instant::now();
        let merged = job.merge(Path::new(&folder).join(name), &mut |_| ())?;
        println!("merge {name}: {:.1} s, {} rows, {}", begin.elapsed().as_secs_f64(), merged.rows, memory());
    }
    Ok(())
}
