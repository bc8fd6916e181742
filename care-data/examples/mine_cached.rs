//! Mines hard negatives with vectors that exist already, and prints the seconds and the peak memory; `mine_peer.py` makes
//! the vectors and does the same with sentence-transformers. As there, all rows are in memory before the first is written.
//!
//! ```text
//! cargo run --release -p care-data --example mine_cached -- FOLDER OUT.jsonl
//! ```
//!
//! `FOLDER` has `corpus.jsonl`, `train.jsonl`, and `texts.txt` (a JSON string per line) with `vectors.f32`, one vector of
//! 384 numbers per line.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use care_core::index::VectorFormat;
use care_core::{Document, Embedder, Embeddings, Query, Result, Text};
use care_data::mine::{
    Documents, Ids, Lacking, Plan, Queries, RankCount, Ranks, Rules, VectorSource, mine, read_corpus, read_rows,
};
use care_data::rows::{RowFormat, RowWriter};

const DIM: usize = 384;

struct Cached {
    rows: HashMap<String, usize>,
    vectors: Vec<f32>,
}

impl Cached {
    fn read(folder: &Path) -> Self {
        let texts = fs::read_to_string(folder.join("texts.txt")).unwrap();
        let texts = texts.lines().map(|line| serde_json::from_str::<String>(line).unwrap());
        let bytes = fs::read(folder.join("vectors.f32")).unwrap();
        let vectors = bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Self { rows: texts.enumerate().map(|(row, text)| (text, row)).collect(), vectors }
    }

    fn vectors<T: Text>(&self, texts: &[T]) -> Result<Embeddings> {
        let row = |text: &T| self.rows[text.content().as_ref()] * DIM;
        Embeddings::from_rows(DIM, texts.iter().map(|text| &self.vectors[row(text)..row(text) + DIM]))
    }
}

impl Embedder for Cached {
    fn embedding_dim(&self) -> usize {
        DIM
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.vectors(queries)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.vectors(documents)
    }
}

/// The process's peak memory in MB; 0 if the system does not report it.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, output) = (Path::new(&arguments[0]), Path::new(&arguments[1]));
    let cached = Cached::read(folder);
    let start = Instant::now();
    // What the peer is asked for: ranks 10 to 210 of what is allowed, five per cent below the positive, the 10 best.
    let rules = Rules::nv_retriever().with(|rules| {
        (rules.ranks, rules.count) = (Ranks { skip: 10, through: 210 }, RankCount::Allowed);
    });
    let temporary = output.parent().unwrap();
    let (mut documents, mut queries) =
        (Documents::new(temporary, rules.near).unwrap(), Queries::new(temporary).unwrap());
    read_corpus(folder.join("corpus.jsonl"), &mut documents, &mut Ids::default(), &mut Err).unwrap();
    read_rows(folder.join("train.jsonl"), &mut documents, &mut queries, Lacking::Score, &mut Err).unwrap();
    let read = start.elapsed().as_secs_f64();
    let searched = Instant::now();
    let source = VectorSource::new("cached", &cached, &documents, VectorFormat::F32, &mut |_| {}).unwrap();
    let (mut plan, mut rows) = (Plan::default(), Vec::new());
    plan.rules = rules;
    let report = mine(&queries, &documents, &[&source], &plan, &mut |mined| {
        rows.push(mined.example(&documents, &queries)?);
        Ok(())
    });
    let negatives = report.unwrap().negatives;
    let mined = searched.elapsed().as_secs_f64();
    let mut writer = RowWriter::create(output, RowFormat::Triplet).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.finish().unwrap();
    println!(
        "{{\"read_s\":{read:.2},\"mine_s\":{mined:.2},\"all_s\":{:.2},\"negatives\":{negatives},\"peak_mb\":{}}}",
        start.elapsed().as_secs_f64(),
        peak()
    );
}
