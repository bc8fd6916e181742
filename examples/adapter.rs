//! Load a PEFT adapter into a model, show its effect, and save it again.
//!
//! ```sh
//! cargo run --release --example adapter -- MODEL_DIR ADAPTER_DIR OUTPUT_DIR
//! ```
//!
//! `MODEL_DIR` is the Hugging Face folder of the adapter's base model.

use std::path::Path;

use anyhow::{Context, Result};
use care_encoders::batch::{PaddingSide, TokenBatch};
use care_encoders::head::{HeadConfig, Pooling};
use care_encoders::lora::read_lora_config;
use care_encoders::{AnyEncoder, Device, EncoderOptions, Network, load_encoder};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |name: &str| arguments.next().with_context(|| format!("missing argument {name}"));
    let (model, adapter, output) = (next("MODEL_DIR")?, next("ADAPTER_DIR")?, next("OUTPUT_DIR")?);
    let device = Device::Cpu.open()?;

    let base = load_encoder(&model, &EncoderOptions::default(), &device)?;
    let adapted = base.clone().with_adapter(&adapter)?;
    let merged = adapted.clone().merge_lora();

    // All three encode the same tokens; real texts need a tower, as in the example `embed`.
    let batch = TokenBatch::pad(&[[20, 21, 22, 23]], 0, PaddingSide::Right);
    let vector = |encoder: AnyEncoder| -> Result<Vec<f32>> {
        let network = Network::new(encoder, HeadConfig::new(Pooling::Mean), &device)?;
        network.forward(&batch).into_data().try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))
    };
    let (base, adapted_vector, merged) = (vector(base)?, vector(adapted.clone())?, vector(merged)?);
    let cosine = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
    println!("cosine to the base model: {:.6}", cosine(&base, &adapted_vector));
    println!("cosine of merged and unmerged: {:.6}", cosine(&adapted_vector, &merged));

    let config = read_lora_config(&adapter)?;
    adapted.save_adapter(&output, &config, &Path::new(&model).display().to_string())?;
    println!("rank {}, written to {}", config.rank, Path::new(&output).display());
    Ok(())
}
