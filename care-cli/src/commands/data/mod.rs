//! `care data`: training data, from raw rows to clean triplets.

mod bad_rows;
mod clean;
mod convert;
mod dedup;
mod generate;
mod mine;
mod mine_rules;
mod score;
mod score_journal;
mod split;
mod stats;

use anyhow::Result;
use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Convert training rows between the forms of FlagEmbedding, sentence-transformers and Tevatron, and to Parquet
    Convert(convert::Args),
    /// Mine hard negatives with a pair, BM25 or rankings of other systems
    Mine(Box<mine::Args>),
    /// Drop rows whose text is a duplicate of another one's: exact, near or by vectors, also of a test set's
    Dedup(dedup::Args),
    /// Find false negatives by scores or by LLM judges, and drop them or make them positives
    Clean(clean::Args),
    /// Write questions for documents by LLMs, and keep those that find their document
    Generate(generate::Args),
    /// Add a reranker's or a pair's scores to training rows, for distillation
    Score(score::Args),
    /// Split training rows so that near-duplicate queries are never in two parts
    Split(split::Args),
    /// Count rows, texts, lengths and duplicates
    Stats(stats::Args),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Convert(args) => convert::run(args),
        Command::Mine(args) => mine::run(*args),
        Command::Dedup(args) => dedup::run(args),
        Command::Clean(args) => clean::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Score(args) => score::run(args),
        Command::Split(args) => split::run(args),
        Command::Stats(args) => stats::run(args),
    }
}
