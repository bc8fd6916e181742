//! Ablate the method: train the same towers on the same data with seven configurations.
//!
//! ```text
//! cargo run --release --example ablations -- runs/ablations
//! ```
//!
//! Every row of the table is a configuration that differs from the method in one place, saved in the folder as a file
//! that `care train --config FILE` reads. A complete run is not repeated, so the grid can be interrupted and resumed.
//! The towers are small and start from random weights: the example shows how to run such a grid, its scores mean
//! little.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use care_core::Instruction;
use care_encoders::config::{DecoderConfig, EncoderConfig};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
use care_encoders::{AsymmetricEncoder, Device, Tower, network_with_head, random_encoder};
use care_train::{Event, Outcome, Run, TrainConfig};
use cmedteb::Protocol;
use indicatif::{ProgressBar, ProgressStyle};

/// Stage 1: the document tower teaches the query tower.
const ALIGN: &str = r#"
[[stage]]
kind = "query-alignment"
data = ["data/align.jsonl"]
epochs = 4
learning_rate = 2e-3
"#;

/// Stage 2: both towers are trained, with hard negatives.
const FINETUNE: &str = r#"
[[stage]]
kind = "joint-finetuning"
data = ["data/train.jsonl"]
epochs = 6
group_size = 2
learning_rate = 5e-4
loss = [{ kind = "info-nce", temperature = 0.05 }]
"#;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: ablations OUTPUT_DIR")?);
    if !folder.join("start").exists() {
        if !folder.join("data").exists() {
            cmedteb::mini::write_to(folder.join("data"))?;
        }
        untrained()?.save(folder.join("untrained"))?;
        // Pretrained towers would come from a checkpoint. Here the document tower is first trained alone.
        let teach = FINETUNE.replace("joint-finetuning", "symmetric-document").replace("epochs = 6", "epochs = 12");
        let teach = teach.replace("5e-4", "2e-3");
        fs::rename(run(&folder, "document-tower", "untrained", &teach)?, folder.join("start"))?;
    }
    let only = |loss: &str| format!("{ALIGN}loss = [{loss}]\n{FINETUNE}");
    let grid = [
        ("both stages", format!("{ALIGN}{FINETUNE}")),
        ("stage 1 only", ALIGN.to_owned()),
        ("stage 2 only", FINETUNE.to_owned()),
        ("stage 1 by MSE only", only("{ kind = \"embedding-mse\" }")),
        ("stage 1 by InfoNCE only", only("{ kind = \"info-nce\", temperature = 0.1 }")),
        ("document tower frozen in stage 2", format!("{ALIGN}{FINETUNE}document = {{ train = \"frozen\" }}\n")),
        ("symmetric", FINETUNE.replace("joint-finetuning", "symmetric")),
    ];
    let task = cmedteb::find("mini-retrieval")?;
    let device = Device::Cpu.open()?;
    println!("{:34} {:>8} {:>11}", "", "nDCG@10", "recall@100");
    for (name, stages) in &grid {
        // One network in both roles needs two identical towers to start from.
        let start = if *name == "symmetric" { "symmetric-start" } else { "start" };
        if start == "symmetric-start" && !folder.join(start).exists() {
            symmetric(&AsymmetricEncoder::load(folder.join("start"), &device)?)?.save(folder.join(start))?;
        }
        let pair = AsymmetricEncoder::load(&run(&folder, &name.replace(' ', "-"), start, stages)?, &device)?;
        let outcome = cmedteb::evaluate(&task, &pair, &Protocol::default(), &mut |_| {})?;
        let score = |key| outcome.score(key).unwrap_or(f64::NAN);
        println!("{name:34} {:8.4} {:11.4}", score("ndcg_at_10"), score("recall_at_100"));
    }
    Ok(())
}

/// Runs one configuration, unless it is complete; returns the folder of the trained pair.
fn run(folder: &Path, name: &str, start: &str, stages: &str) -> Result<PathBuf> {
    let file = folder.join(format!("{name}.toml"));
    fs::write(
        &file,
        format!("output = {name:?}\ncheckpoint_every = 0\ncache = \"teacher\"\n[model]\npair = {start:?}\n{stages}"),
    )?;
    let model = folder.join(name).join("model");
    if model.exists() {
        return Ok(model);
    }
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    bar.set_style(ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}")?);
    let config = TrainConfig::from_file(&file)?.check()?;
    let resume = folder.join(name).join("log.jsonl").exists();
    let outcome = Run::new(&config).resume(resume).start(&mut |event| {
        if let Event::Step(step) = event {
            bar.set_length(step.total_steps as u64);
            bar.set_position(step.step as u64);
            bar.set_message(format!("loss {:.3}", step.loss));
        }
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    match outcome {
        Outcome::Finished { folder, .. } => Ok(folder),
        other => anyhow::bail!("{name} did not finish: {other:?}"),
    }
}

/// A small and a larger decoder with random weights.
fn untrained() -> Result<AsymmetricEncoder> {
    let device = Device::Cpu.open()?;
    let texts = cmedteb::mini::alignment_texts();
    let tokenizer = || character_tokenizer(&texts, 3000, TokenizerStyle::EndOfText, 96);
    let network = |width, layers, seed| {
        let mut config = DecoderConfig::new(3000, width, layers);
        config.initializer_range = 0.05;
        let encoder = random_encoder(&EncoderConfig::Decoder(config), seed, &device)?;
        network_with_head(encoder, HeadConfig::new(Pooling::Mean).with_dim(128), seed, &device)
    };
    Ok(AsymmetricEncoder::new(
        Tower::new(tokenizer()?, network(128, 1, 1)?, Instruction::default())?,
        Tower::new(tokenizer()?, network(192, 2, 2)?, Instruction::default())?,
    )?)
}

/// The document tower in both roles.
fn symmetric(pair: &AsymmetricEncoder) -> Result<AsymmetricEncoder> {
    let document = pair.document().clone();
    let query = Tower::new(document.tokenizer().clone(), document.network().clone(), Instruction::default())?;
    Ok(AsymmetricEncoder::new(query, document)?)
}
