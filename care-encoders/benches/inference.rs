//! Times inference. `inference_peer.py` runs this in turns with PyTorch, ONNX Runtime and
//! sentence-transformers on the same weights and prints the ratios.
//!
//! ```text
//! cargo bench -p care-encoders --bench inference -- MODEL shapes
//! cargo bench -p care-encoders --bench inference -- MODEL queries FILE
//! cargo bench -p care-encoders --bench inference -- MODEL callers FILE
//! cargo bench -p care-encoders --bench inference -- MODEL serve [--device DEVICE]
//! ```
//!
//! MODEL is a Hugging Face folder, FILE a JSON Lines file with `text`; DEVICE is cpu by default. `shapes` times forward passes; `queries` times
//! single queries from text to vector, and their tokenization; `callers` compares eight callers of a [`QueryQueue`]
//! with one caller that sends batches of eight. `serve` reads requests from standard input, `forward PRECISION ROWS
//! TOKENS COUNT` or `corpus PRECISION FILE FIRST COUNT`, and answers each with a JSON array of milliseconds.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use care_core::{Document, Embedder, Query};

use care_core::embedder::{QueryQueue, QueueOptions};

use care_core::jsonl::read_jsonl;

use care_encoders::{AsymmetricEncoder, DEFAULT_TOKEN_BUDGET, Device, EncoderOptions, Precision};

use care_encoders::head::Pooling;
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The same allocator as in the program `care`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

fn open(model: &Path, precision: Precision) -> Outcome<AsymmetricEncoder> {
    open_on(Device::Cpu, model, precision)
}

fn open_on(device: Device, model: &Path, precision: Precision) -> Outcome<AsymmetricEncoder> {
    let options = EncoderOptions::default().with_precision(precision).with_pooling(Pooling::Mean);
    Ok(AsymmetricEncoder::open(model, &options, &options, &device.open()?)?)
}

/// The duration of a call in milliseconds; panics if the call fails.
fn timed<T, E: std::fmt::Debug>(call: impl FnOnce() -> Result<T, E>) -> f64 {
    let start = Instant::now();
    let outcome = std::hint::black_box(call());
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    assert!(outcome.is_ok(), "{:?}", outcome.err());
    elapsed
}

fn quantile(times: &[f64], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// Forward passes over texts of one length, from token ids to vectors.
fn forward(pair: &AsymmetricEncoder, rows: usize, tokens: usize, count: usize) -> Vec<f64> {
    let id = |row: usize, at: usize| 5 + ((row * 7919 + at * 104_729) % 10_000) as u32;
    let ids: Vec<Vec<u32>> = (0..rows).map(|row| (0..tokens).map(|at| id(row, at)).collect()).collect();
    let embed = || pair.query().network().embed_ids(&ids, 0, DEFAULT_TOKEN_BUDGET, &mut |_| {});
    (0..count).map(|_| timed(embed)).collect()
}

fn texts(file: &Path) -> Outcome<Vec<String>> {
    let rows: Vec<(usize, serde_json::Value)> = read_jsonl(file)?;
    Ok(rows.iter().filter_map(|(_, row)| row["text"].as_str().map(str::to_owned)).collect())
}

fn shapes(model: &Path) -> Outcome<()> {
    for precision in PRECISIONS {
        let pair = open(model, precision)?;
        for (rows, tokens) in [(1, 8), (1, 16), (1, 32), (1, 128), (1, 512), (8, 128), (32, 32)] {
            let times = forward(&pair, rows, tokens, 28).split_off(3);
            let (median, least) = (quantile(&times, 0.5), quantile(&times, 0.0));
            let precision = precision.as_str();
            println!(
                "{}",
                json!({ "precision": precision, "rows": rows, "tokens": tokens, "median_ms": median, "min_ms": least })
            );
        }
    }
    Ok(())
}

/// Times single queries, and their tokenization alone.
fn queries(model: &Path, file: &Path) -> Outcome<()> {
    let texts: Vec<Query> = texts(file)?.into_iter().take(500).map(Query::from).collect();
    for precision in PRECISIONS {
        let load = timed(|| open(model, precision));
        let pair = open(model, precision)?;
        let all: Vec<f64> = texts.iter().map(|text| timed(|| pair.embed_queries(std::slice::from_ref(text)))).collect();
        let tokenizing: Vec<f64> =
            texts.iter().map(|text| timed(|| pair.query().tokenize(std::slice::from_ref(text)))).collect();
        println!(
            "{}",
            json!({
                "precision": precision.as_str(), "load_ms": load, "first_ms": all[0], "median_ms": quantile(&all, 0.5),
                "p99_ms": quantile(&all, 0.99), "tokenize_median_ms": quantile(&tokenizing, 0.5),
            })
        );
    }
    Ok(())
}

fn callers(model: &Path, file: &Path) -> Outcome<()> {
    const CALLERS: usize = 8;
    let texts: Vec<Query> = texts(file)?.into_iter().cycle().take(1000).map(Query::from).collect();
    for precision in PRECISIONS {
        let queue = QueryQueue::new(open(model, precision)?, QueueOptions::default())?;
        for _round in 0..2 {
            let start = Instant::now();
            for batch in texts.chunks(CALLERS) {
                queue.embedder().embed_queries(batch)?;
            }
            let one = texts.len() as f64 / start.elapsed().as_secs_f64();
            let next = AtomicUsize::new(0);
            let start = Instant::now();
            let times: Vec<f64> = std::thread::scope(|scope| {
                let caller = || {
                    let mut times = Vec::new();
                    while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        times.push(timed(|| queue.embed_queries(std::slice::from_ref(text))));
                    }
                    times
                };
                let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
                callers.into_iter().flat_map(|caller| caller.join().unwrap_or_default()).collect()
            });
            let many = texts.len() as f64 / start.elapsed().as_secs_f64();
            println!(
                "{}",
                json!({
                    "precision": precision.as_str(), "one_caller_queries_per_s": one,
                    "eight_callers_queries_per_s": many, "ratio": many / one, "answered": times.len(),
                    "p50_ms": quantile(&times, 0.5), "p99_ms": quantile(&times, 0.99),
                })
            );
        }
    }
    Ok(())
}

fn serve(model: &Path, device: Device) -> Outcome<()> {
    let mut pairs: HashMap<String, AsymmetricEncoder> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if let Some(precision) = line.split_whitespace().nth(1).filter(|precision| !pairs.contains_key(*precision)) {
            pairs.insert(precision.to_owned(), open_on(device, model, precision.parse()?)?);
        }
        let times = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["forward", precision, rows, tokens, count] => {
                forward(&pairs[precision], rows.parse()?, tokens.parse()?, count.parse()?)
            }
            ["corpus", precision, file, first, count] => {
                let texts = texts(Path::new(file))?.into_iter().skip(first.parse()?).take(count.parse()?);
                let documents: Vec<Document> = texts.map(Document::from).collect();
                vec![timed(|| pairs[precision].embed_documents(&documents))]
            }
            _ => return Err(format!("unknown: {line}").into()),
        };
        println!("{}", json!(times));
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, "shapes"] => shapes(model.as_ref()),
        [model, "queries", file] => queries(model.as_ref(), file.as_ref()),
        [model, "callers", file] => callers(model.as_ref(), file.as_ref()),
        [model, "serve"] => serve(model.as_ref(), Device::Cpu),
        [model, "serve", "--device", device] => serve(model.as_ref(), device.parse()?),
        _ => Err("usage: cargo bench -p care-encoders --bench inference -- MODEL \
                  shapes|queries FILE|callers FILE|serve [--device DEVICE]"
            .into()),
    }
}
