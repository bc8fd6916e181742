//! `care label`: a benchmark's labels, from candidates to task folders.

mod build;
mod collect;

use std::path::Path;

use anyhow::Result;
use care_core::manifest::{Input, Manifest};
use clap::Subcommand;
use serde_json::{Map, Value};

/// The stages, in order. Each reads and writes plain files, and a manifest beside its output tells how it was made.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pool the best documents of several systems for each query, as pairs to be judged
    Collect(collect::Args),
    /// Build task folders for retrieval, reranking and similarity, with data cards
    Build(build::Args),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Collect(args) => collect::run(args),
        Command::Build(args) => build::run(args),
    }
}

/// Writes the manifest of a step's output, with its inputs by role.
fn write_manifest(step: &str, options: Value, counts: Value, inputs: Vec<Input>, output: &Path) -> Result<Manifest> {
    let map = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Ok(Manifest::write(&format!("label {step}"), map(options), map(counts), inputs, output)?)
}
