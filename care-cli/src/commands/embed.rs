//! `care embed`

use std::path::PathBuf;

use anyhow::Result;
use care_core::{Document, Embeddings, Error, Query};
use care_encoders::open_tower;
use clap::ValueEnum;

use crate::model::ModelArgs;
use crate::progress::bar;
use crate::texts::{self, FromRow, VectorFile};

/// Texts between two movements of the progress bar; length buckets form within them.
const CHUNK: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Which tower reads the texts
    #[arg(long)]
    role: RoleArg,
    /// Texts: one a line (.txt), or rows with `text` or `query` (.jsonl)
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Vectors in input order: float32 [n, dim] (.npy), or rows (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Template with `{text}`, or prefix; by default as saved
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Query,
    Document,
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.role {
        RoleArg::Query => embed::<Query>(&args),
        RoleArg::Document => embed::<Document>(&args),
    }
}

fn embed<T: FromRow>(args: &Args) -> Result<()> {
    let output = VectorFile::create(&args.output)?;
    let texts: Vec<T> = texts::read(&args.input)?;
    if args.model.batch_tokens == 0 {
        return Err(Error::setting("batch_tokens", 0, "at least 1").into());
    }
    let options = args.model.options(args.instruction.as_ref());
    let tower = open_tower::<T>(&args.model.model, &options, &args.model.device()?)?
        .map_network(|network| network.with_precision(args.model.precision));
    let progress = bar("embedding", texts.len());
    let mut embeddings = Embeddings::zeros(0, tower.embedding_dim());
    for chunk in texts.chunks(CHUNK) {
        embeddings.append(&tower.embed(chunk, args.model.batch_tokens)?)?;
        progress.set_position(embeddings.len() as u64);
    }
    progress.finish_and_clear();
    output.write(&texts, &embeddings, T::ROLE)
}
