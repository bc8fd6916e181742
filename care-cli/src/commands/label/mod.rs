//! `care label`: a benchmark's labels, from candidates to task folders.

mod agree;
mod audit;
mod batch;
mod build;
mod collect;
mod demo;
mod experts;
mod judge;
mod resolve;
mod sample;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::manifest::{Input, Manifest};
use clap::Subcommand;
use serde_json::{Map, Value};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Run all stages on the built-in set, with stand-ins for judges and experts, and show each command
    #[arg(long, required = true)]
    demo: bool,
    /// Folder for the demonstration
    #[arg(long, value_name = "DIR", default_value = "label-demo", requires = "demo")]
    output: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The stages, in order. Each reads and writes plain files, and a manifest beside its output tells how it was made.
#[derive(Subcommand)]
enum Command {
    /// Pool the best documents of several systems for each query, as pairs to be judged
    Collect(collect::Args),
    /// Have LLM judges score the pairs, through any OpenAI-compatible endpoint
    Judge(judge::Args),
    /// Judge by batch files: write requests, and read the answers
    #[command(subcommand)]
    Batch(batch::Command),
    /// Join the votes of each pair into a label
    Resolve(resolve::Args),
    /// Draw a sample for experts, as sheets (CSV, XLSX), offline pages or Label Studio tasks
    Sample(sample::Args),
    /// Read what experts filled, list disputes, and join their answers
    Experts(experts::Args),
    /// Measure how far judges and experts agree, with intervals
    Agree(agree::Args),
    /// Audit: unlabelled positives of existing judgements, and how much the ranking of systems depends on a judge
    Audit(audit::Args),
    /// Build task folders for retrieval, reranking and similarity, with data cards
    Build(build::Args),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Some(command) => run_command(command),
        None if args.demo => demo::run(&args.output),
        None => bail!("a stage is needed, see `care label --help`, or --demo"),
    }
}

fn run_command(command: Command) -> Result<()> {
    match command {
        Command::Collect(args) => collect::run(args),
        Command::Judge(args) => judge::run(args),
        Command::Batch(command) => batch::run(command),
        Command::Resolve(args) => resolve::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Experts(args) => experts::run(args),
        Command::Agree(args) => agree::run(args),
        Command::Audit(args) => audit::run(args),
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
