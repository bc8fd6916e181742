//! Near-duplicates planted at known edit distances among synthetic Chinese texts: what is found, how fast, in how much
//! memory. `planted_peers.py` beside it does the same with datasketch and text-dedup.
//!
//! ```sh
//! cargo run --release -p care-data --example planted -- write 1000000 planted.jsonl
//! cargo run --release -p care-data --example planted -- find planted.jsonl kept.jsonl
//! python3 care-data/examples/planted_peers.py score planted.jsonl kept.jsonl
//! ```
//!
//! Words are drawn by Zipf's law, texts have 6 to 200 characters, most of them below 40, as questions have. Of every ten
//! texts, three are copies of one of the others with 0, 1, 2, 3, 5, 8 or 13 characters replaced, inserted or deleted.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use care_data::dedup::{DedupOptions, Deduplication};
use care_data::near::NearDuplicates;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// Numbers of edits.
const EDITS: [usize; 7] = [0, 1, 2, 3, 5, 8, 13];
/// Words of the vocabulary.
const WORDS: usize = 30_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", texts, path] => write(texts.parse()?, path),
        ["find", path, kept] => find(path, kept, 0.8),
        ["find", path, kept, threshold] => find(path, kept, threshold.parse()?),
        _ => Err("planted write N FILE, or planted find FILE KEPT [THRESHOLD]".into()),
    }
}

fn find(path: &str, kept: &str, threshold: f64) -> Result<(), Failure> {
    let begin = Instant::now();
    let options = DedupOptions::default().with_near(NearDuplicates::new(3, threshold)?);
    let found = Deduplication::of(&[PathBuf::from(path)], &[], &options)?;
    let counts = found.counts();
    let mut out = BufWriter::new(File::create(kept)?);
    found.write_rows(&mut out)?;
    out.flush()?;
    println!(
        "{} rows, {} exact and {} near duplicates, {:.1} s on {} threads",
        counts.rows,
        counts.exact,
        counts.near,
        begin.elapsed().as_secs_f64(),
        rayon::current_num_threads()
    );
    Ok(())
}

fn write(texts: usize, path: &str) -> Result<(), Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let vocabulary: Vec<Vec<char>> = (0..WORDS).map(|_| word(&mut rng)).collect();
    let mut out = BufWriter::new(File::create(path)?);
    // Originals that later texts copy; the rest are forgotten, so that memory stays small.
    let mut originals: Vec<(usize, Vec<char>)> = Vec::new();
    for id in 0..texts {
        let is_copy = id % 10 >= 7 && !originals.is_empty();
        let (text, of, edits) = if is_copy {
            let (of, original) = &originals[rng.random_range(0..originals.len())];
            let edits = EDITS[rng.random_range(0..EDITS.len())];
            (edited(original, edits, &mut rng), Some(*of), edits)
        } else {
            let text = sentence(&vocabulary, &mut rng);
            if originals.len() < 200_000 {
                originals.push((id, text.clone()));
            } else {
                let at = rng.random_range(0..originals.len());
                originals[at] = (id, text.clone());
            }
            (text, None, 0)
        };
        let text: String = text.into_iter().collect();
        let row = match of {
            Some(of) => json!({ "id": id, "text": text, "of": of, "edits": edits }),
            None => json!({ "id": id, "text": text }),
        };
        writeln!(out, "{row}")?;
    }
    Ok(out.flush()?)
}

fn word(rng: &mut ChaCha8Rng) -> Vec<char> {
    let length = [1, 2, 2, 2, 2, 3, 3, 4][rng.random_range(0..8)];
    (0..length).map(|_| han(rng)).collect()
}

/// A common character more often than a rare one.
fn han(rng: &mut ChaCha8Rng) -> char {
    let at = (3500.0 * rng.random::<f64>().powi(2)) as u32;
    char::from_u32(0x4e00 + at * 5).unwrap_or('一')
}

fn sentence(vocabulary: &[Vec<char>], rng: &mut ChaCha8Rng) -> Vec<char> {
    // Between 6 and 200, half of them below 20.
    let length = (6.0 * (200.0_f64 / 6.0).powf(rng.random::<f64>().powf(1.5))) as usize;
    let mut text = Vec::new();
    while text.len() < length {
        // Zipf: rank r with a probability near to 1 / r.
        let rank = (WORDS as f64).powf(rng.random::<f64>()) as usize - 1;
        text.extend(&vocabulary[rank.min(WORDS - 1)]);
        if text.len() % 11 == 10 {
            text.push('，');
        }
    }
    text.push('？');
    text
}

fn edited(original: &[char], edits: usize, rng: &mut ChaCha8Rng) -> Vec<char> {
    let mut text = original.to_vec();
    for _ in 0..edits {
        let at = rng.random_range(0..text.len());
        match rng.random_range(0..3) {
            0 => text[at] = han(rng),
            1 => text.insert(at, han(rng)),
            _ if text.len() > 1 => drop(text.remove(at)),
            _ => {}
        }
    }
    text
}
