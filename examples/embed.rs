//! Embed a few texts with a model of your own.
//!
//! ```text
//! cargo run --release --example embed -- MODEL_DIR
//! ```
//!
//! `MODEL_DIR` is a saved pair, or a Hugging Face folder of one encoder that then serves
//! both roles, such as multilingual-e5-small.

use std::path::PathBuf;

use anyhow::{Context, Result};
use care_core::{Device, Embedder, Pooling};
use care_encoders::{AsymmetricEncoder, EncoderOptions};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: embed MODEL_DIR")?);
    let device = Device::Cpu.open()?;

    // For a saved pair the defaults are right: everything is stored with it. A bare encoder does not
    // say how it was trained to be used; these are the settings of the e5 family.
    let (query, document) = if AsymmetricEncoder::is_pair(&folder)? {
        (EncoderOptions::default(), EncoderOptions::default())
    } else {
        let e5 = |prefix: &str| EncoderOptions {
            pooling: Some(Pooling::Mean),
            instruction: Some(prefix.to_owned()),
            ..EncoderOptions::default()
        };
        (e5("query: "), e5("passage: "))
    };
    let model = AsymmetricEncoder::open(&folder, &query, &document, &device)?;

    // A query is a `Query`, a document a `Document`: the towers cannot be swapped by mistake.
    let queries = model.embed_queries(&["高血压患者能吃党参吗".into()])?;
    let documents = model.embed_documents(&["高血压患者宜低盐饮食。".into(), "偏头痛发作时应避光休息。".into()])?;
    for index in 0..documents.len() {
        println!("similarity to document {index}: {:.4}", queries.dot(0, &documents, index));
    }
    Ok(())
}
