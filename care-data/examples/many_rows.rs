//! De-duplication and statistics of files too large for memory.
//!
//! ```sh
//! cargo build --release -p care-data --example many_rows
//! target/release/examples/many_rows write 5000000 rows.jsonl
//! /usr/bin/time -v target/release/examples/many_rows dedup rows.jsonl kept.jsonl
//! /usr/bin/time -v target/release/examples/many_rows stats rows.jsonl
//! ```
//!
//! These are what `care data dedup --exact` and `care data stats` do. A row has a question, an answer and three negatives
//! from a corpus of 500,000 answers; a fifth of the questions come twice.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use care_data::dedup::{DedupOptions, Deduplication};
use care_data::stats::collect_stats;
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let begin = Instant::now();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", rows, path] => write(rows.parse()?, path)?,
        ["dedup", path, kept] => {
            let found = Deduplication::of(&[PathBuf::from(path)], &[], &DedupOptions::default())?;
            found.save_rows(kept)?;
            println!("{:?}", found.counts());
        }
        ["stats", path] => println!("{}", collect_stats(&[PathBuf::from(path)], &mut Err)?),
        _ => return Err("many_rows write N FILE, many_rows dedup FILE KEPT, or many_rows stats FILE".into()),
    }
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn write(rows: usize, path: &str) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for row in 0..rows {
        // Every fifth question has been asked before.
        let question = if row % 5 == 4 { row / 5 } else { row };
        let negatives: Vec<String> = (1..4).map(|n| text(9_000_000 + (row * 7 + n * 7919) % 500_000, 30)).collect();
        let answer = text(9_000_000 + question % 500_000, 30);
        writeln!(out, "{}", json!({ "query": text(question, 18), "pos": [answer], "neg": negatives }))?;
    }
    Ok(out.flush()?)
}

/// A text of its own for each number.
fn text(number: usize, length: u64) -> String {
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state >> 33
    };
    let length = length / 2 + next() % length;
    let body: String = (0..length).filter_map(|_| char::from_u32(0x4e00 + (next() % 3000) as u32)).collect();
    format!("{body}第{number}")
}
