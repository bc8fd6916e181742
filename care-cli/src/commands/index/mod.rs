//! `care index`: an index on disk, from a corpus to answers.

mod add;
mod approximate;
mod change;
mod export;
mod info;
mod search;
mod selection;
mod shared;
mod store;

use anyhow::Result;
use clap::Subcommand;

pub(super) use selection::SelectionArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an index of a corpus: vectors, ids, texts and all further fields as metadata
    Build(Box<add::BuildArgs>),
    /// Add documents; one whose id the index has replaces it
    Add(Box<add::AddArgs>),
    /// Remove documents by their ids
    Remove(change::RemoveArgs),
    /// Free the space of removed and replaced documents
    Compact(change::CompactArgs),
    /// Build graphs for approximate searches, and measure what they lose against exact search
    Approximate(Box<approximate::Args>),
    /// Write an index as a Parquet file, or into Qdrant or pgvector; a push that stopped is resumed by the same command
    Export(export::Args),
    /// Show what an index has: its tower, documents, codes, graphs and fields
    Info(info::Args),
    /// Search an index, or a database that has it, with filters on metadata
    Search(Box<search::Args>),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Build(args) => add::build(*args),
        Command::Add(args) => add::add(*args),
        Command::Remove(args) => change::remove(args),
        Command::Compact(args) => change::compact(args),
        Command::Approximate(args) => approximate::run(*args),
        Command::Export(args) => export::run(args),
        Command::Info(args) => info::run(args),
        Command::Search(args) => search::run(*args),
    }
}
