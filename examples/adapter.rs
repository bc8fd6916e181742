//! Puts a PEFT adapter on a model, shows what it changes, and writes it again.
//!
//! ```sh
//! cargo run --release --example adapter -- MODEL_DIR ADAPTER_DIR OUTPUT_DIR
//! ```
//!
//! `MODEL_DIR` is the Hugging Face folder that the adapter was made for.

use std::path::Path;

use anyhow::{Context, Result};
use care_core::{Device, HeadConfig, Network, PaddingSide, Pooling, TokenBatch};
use care_encoders::{AnyEncoder, EncoderOptions, load_encoder, read_lora_config};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |name: &str| arguments.next().with_context(|| format!("missing argument {name}"));
    let (model, adapter, output) = (next("MODEL_DIR")?, next("ADAPTER_DIR")?, next("OUTPUT_DIR")?);
    let device = Device::Cpu.open()?;

    let base = load_encoder(model.as_ref(), &EncoderOptions::default(), &device)?;
    let adapted = base.clone().with_adapter(adapter.as_ref())?;
    let merged = adapted.clone().merge_lora();

    // The same tokens through all three; real texts go through a tower, as in the example `embed`.
    let batch = TokenBatch::pad(&[[20, 21, 22, 23]], 0, PaddingSide::Right);
    let vector = |encoder: AnyEncoder| -> Result<Vec<f32>> {
        let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &device)?;
        network.forward(&batch).into_data().try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))
    };
    let (bare, with, one) = (vector(base)?, vector(adapted.clone())?, vector(merged)?);
    let cosine = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
    println!("cosine to the base model: {:.6}", cosine(&bare, &with));
    println!("cosine of merged and unmerged: {:.6}", cosine(&with, &one));

    let config = read_lora_config(adapter.as_ref())?;
    adapted.save_adapter(output.as_ref(), &config, &Path::new(&model).display().to_string())?;
    println!("rank {}, written to {}", config.rank, Path::new(&output).display());
    Ok(())
}
