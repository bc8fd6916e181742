//! Index a corpus and search it.
//!
//! ```text
//! cargo run --release --example search -- MODEL_DIR 头痛怎么办
//! ```
//!
//! The corpus is the built-in demonstration set (not medical advice); replace it with your own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use care_core::index::FlatIndex;
use care_core::{Embedder, Query};
use care_encoders::{AsymmetricEncoder, Device, EncoderOptions};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: search MODEL_DIR QUERY";
    let folder = PathBuf::from(arguments.next().context(usage)?);
    let query = Query::new(arguments.next().context(usage)?);

    let options = EncoderOptions::default();
    let model = AsymmetricEncoder::open(&folder, &options, &options, &Device::Cpu.open()?)?;

    // Offline: the document tower encodes the corpus once.
    let (ids, documents): (Vec<_>, Vec<_>) = cmedteb::mini::corpus().iter().cloned().unzip();
    let index = FlatIndex::new(model.embed_documents(&documents)?);

    // Online: only the query tower runs. Search is exact, and ties have a fixed order.
    let hits = index.search(&model.embed_queries(&[query])?, 5)?;
    for hit in &hits[0] {
        println!("{:.4}  {}  {}", hit.score, ids[hit.index], documents[hit.index].title());
    }
    Ok(())
}
