//! Train a pair in two stages from a configuration, with checkpoints from which a second run resumes.
//!
//! ```text
//! cargo run --release --example train -- runs/demo
//! ```
//!
//! This is what `care train` does, except that the towers start from random weights, so that no download is needed. For
//! pretrained towers, put their folders into the `[model]` table (see docs/formats.md).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use care_core::Instruction;
use care_encoders::config::{BertConfig, DecoderConfig, EncoderConfig};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::tokenize::{TokenizerStyle, character_tokenizer};
use care_encoders::{AsymmetricEncoder, Device, Tower, network_with_head, random_encoder};
use care_train::{Event, Outcome, Run, TrainConfig};

fn main() -> Result<()> {
    let output = PathBuf::from(std::env::args().nth(1).context("usage: train OUTPUT_DIR")?);
    let resume = output.join("run/checkpoints").exists();
    if !resume {
        // Data files in FlagEmbedding's format, and the towers to start from.
        cmedteb::mini::write_to(output.join("data"))?;
        towers()?.save(output.join("start"))?;
    }

    // `care train --config FILE` reads the same text from a file.
    let config: TrainConfig = format!(
        r#"
        output = {run:?}
        checkpoint_every = 20

        [model]
        pair = {start:?}

        [[stage]]
        kind = "query-alignment"      # the document tower is frozen and teaches the query tower
        data = [{align:?}]
        batch_size = 32
        learning_rate = 2e-3

        [[stage]]
        kind = "joint-finetuning"     # both towers are trained, with hard negatives
        data = [{train:?}]
        batch_size = 32
        group_size = 2
        loss = [{{ kind = "info-nce", temperature = 0.05 }}]
        learning_rate = 5e-4
        "#,
        run = output.join("run"),
        start = output.join("start"),
        align = output.join("data/align.jsonl"),
        train = output.join("data/train.jsonl"),
    )
    .parse()?;

    let outcome = Run::new(&config.check()?).resume(resume).start(&mut |event| {
        if let Event::Step(step) = event {
            eprintln!("stage {} step {}/{} loss {:.4}", step.stage, step.step, step.total_steps, step.loss);
        }
        // Break here, or kill the program: started again, it resumes from the newest checkpoint and ends with the
        // same weights.
        ControlFlow::Continue(())
    })?;
    if let Outcome::Finished { folder, .. } = outcome {
        println!("trained pair: {}", Path::new(&folder).display());
    }
    Ok(())
}

fn towers() -> Result<AsymmetricEncoder> {
    let device = Device::Cpu.open()?;
    let texts = cmedteb::mini::alignment_texts();
    let tokenizer = |style| character_tokenizer(&texts, 3000, style, 96);

    let bert = random_encoder(&EncoderConfig::Bert(BertConfig::new(3000, 128, 2)), 1, &device)?;
    let network = network_with_head(bert, HeadConfig::new(Pooling::Mean), 1, &device)?;
    let query = Tower::new(tokenizer(TokenizerStyle::Bert)?, network, Instruction::default())?;

    let qwen = random_encoder(&EncoderConfig::Decoder(DecoderConfig::new(3000, 192, 2)), 2, &device)?;
    let network = network_with_head(qwen, HeadConfig::new(Pooling::LastToken).with_dim(128), 2, &device)?;
    let document = Tower::new(tokenizer(TokenizerStyle::EndOfText)?, network, Instruction::default())?;
    Ok(AsymmetricEncoder::new(query, document)?)
}
