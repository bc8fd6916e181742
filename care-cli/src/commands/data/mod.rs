//! `care data`: training data, from raw rows to clean triplets.

mod bad_rows;
mod convert;
mod mine;
mod mine_rules;
mod split;

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
    /// Split training rows so that near-duplicate queries are never in two parts
    Split(split::Args),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Convert(args) => convert::run(args),
        Command::Mine(args) => mine::run(*args),
        Command::Split(args) => split::run(args),
    }
}
