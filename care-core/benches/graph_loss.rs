//! Measures what approximate search loses against exact search, by the vectors of a pair.
//!
//! ```text
//! care embed --model PAIR --role document --input corpus.jsonl --output documents.npy
//! care embed --model PAIR --role query --input queries.jsonl --output queries.npy
//! care embed --model PAIR --role query --input texts.jsonl --output texts.npy
//! cargo bench -p care-core --features approximate --bench graph_loss -- documents.npy queries.npy texts.npy
//! ```
//!
//! `texts.npy`, which may be missing, are texts of the documents encoded as if they were queries: the substitute for queries. Prints
//! one JSON object per number of links, of candidates, and sample.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;

use care_core::Embeddings;
use care_core::index::{DiskIndexOptions, DocumentTower, GraphOptions, IndexWriter, LossSample, Record};

mod npy;
use npy::read_npy;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let read = |file: &String| Embeddings::from(read_npy(Path::new(file)));
    let documents = read(&files[0]);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let tower = DocumentTower::new("bench");
    let mut writer = IndexWriter::create(folder.path(), &tower, documents.dim(), &DiskIndexOptions::default()).unwrap();
    let records: Vec<Record> = (0..documents.len()).map(|row| Record::new(row.to_string())).collect();
    writer.add(&tower, &records, &documents).unwrap();
    let samples = [LossSample::Queries, LossSample::Documents].into_iter().zip(files[1..].iter().map(read));
    for (sample, queries) in samples {
        for links in [8, 16] {
            for expansion in [32, 64, 128, 256] {
                let options = GraphOptions::default().with_links(links).with_expansion(expansion);
                let built = writer.build_graphs(&options, sample, &queries).unwrap();
                println!("{}", serde_json::to_string(&built).unwrap());
            }
        }
    }
}
