//! The stages as commands.

use anyhow::Result;
use clap::Subcommand;

use super::{agree, audit, batch, build, collect, experts, judge, resolve, sample};

/// The stages, in order. Each reads and writes plain files, and a manifest beside its output tells how it was made.
#[derive(Subcommand)]
pub(super) enum Command {
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

pub(super) fn run(command: Command) -> Result<()> {
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
