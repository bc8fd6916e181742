//! Evaluate a model on the built-in tasks, or on your own task folder.
//!
//! ```text
//! cargo run --release --example evaluate -- MODEL_DIR [TASK_FOLDER]
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use care_encoders::{AsymmetricEncoder, Device, EncoderOptions};
use cmedteb::{Protocol, bm25, built_in_names, evaluate, find, load, score_run};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: evaluate MODEL_DIR [TASK_FOLDER]")?);
    let tasks = match arguments.next() {
        // BEIR retrieval, reranking.jsonl and sts.jsonl are found in the folder.
        Some(own) => load(own, None)?,
        None => built_in_names().map(find).collect::<Result<_, _>>()?,
    };

    let options = EncoderOptions::default();
    let model = AsymmetricEncoder::open(&folder, &options, &options, &Device::Cpu.open()?)?;
    for task in &tasks {
        // `evaluate` takes any `&dyn Embedder`: implement that trait to evaluate anything else.
        let outcome = evaluate(task, &model, &Protocol::default(), &mut |_| {})?;
        let (measure, score) = &outcome.scores[0];
        println!("{:24} {measure:16} {score:.4}", task.name());
        // The score of a search engine without a neural network on the same task.
        if let Some(retrieval) = task.as_retrieval() {
            let baseline = score_run(retrieval, bm25(retrieval, &Protocol::default())?, &Protocol::default())?;
            println!("{:24} {measure:16} {:.4}", "  BM25", baseline.main_score());
        }
    }
    Ok(())
}
