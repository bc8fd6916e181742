//! `care index`: an index on disk, from a corpus to answers.

mod add;
mod change;
mod info;
mod search;

use anyhow::{Result, bail};
use care_core::index::DocumentTower;
use care_core::{Document, Embedder, Role};
use clap::Subcommand;

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
    /// Show what an index has: its tower, documents, codes and fields
    Info(info::Args),
    /// Search an index by exact similarity, with filters on metadata
    Search(Box<search::Args>),
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Build(args) => add::build(*args),
        Command::Add(args) => add::add(*args),
        Command::Remove(args) => change::remove(args),
        Command::Compact(args) => change::compact(args),
        Command::Info(args) => info::run(args),
        Command::Search(args) => search::run(*args),
    }
}

/// The document tower of a model, with its instruction as it applies to a document of placeholders.
fn document_tower(model: &dyn Embedder) -> Result<DocumentTower> {
    let Some(fingerprint) = model.fingerprint(Role::Document)? else {
        bail!("the model has no fingerprint for document vectors, so they cannot be indexed");
    };
    let instruction = model.document_key(&Document::with_title("{title}", "{text}"));
    Ok(DocumentTower::new(fingerprint).with_instruction(instruction))
}
