//! Embed a few texts with your own model.
//!
//! ```text
//! cargo run --release --example embed -- MODEL_DIR
//! ```
//!
//! `MODEL_DIR` is a saved pair, or the Hugging Face folder of a single encoder that then serves both roles, e.g.
//! multilingual-e5-small.

use std::path::PathBuf;

use anyhow::{Context, Result};
use care_core::Embedder;
use care_encoders::head::Pooling;
use care_encoders::{AsymmetricEncoder, Device, EncoderOptions};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: embed MODEL_DIR")?);
    let device = Device::Cpu.open()?;

    // A saved pair stores all its settings, so the defaults are right. A bare encoder does not specify how it was
    // trained to be used; these are the settings of the e5 family.
    let (query, document) = if AsymmetricEncoder::is_pair(&folder)? {
        (EncoderOptions::default(), EncoderOptions::default())
    } else {
        let e5 = |prefix: &str| EncoderOptions::default().with_pooling(Pooling::Mean).with_instruction(prefix);
        (e5("query: "), e5("passage: "))
    };
    let model = AsymmetricEncoder::open(&folder, &query, &document, &device)?;

    // Queries and documents have different types, so the towers cannot be swapped by mistake.
    let queries = model.embed_queries(&["高血压患者能吃党参吗".into()])?;
    let documents = model.embed_documents(&["高血压患者宜低盐饮食。".into(), "偏头痛发作时应避光休息。".into()])?;
    for index in 0..documents.len() {
        println!("similarity to document {index}: {:.4}", queries.dot(0, &documents, index));
    }
    Ok(())
}
