//! `care embed`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::{Document, Error, Query};
use care_encoders::{EmbedProgress, load_tower};
use clap::ValueEnum;

use crate::families::warn_without_instruction;
use crate::model::{ModelArgs, Own, say};
use crate::progress::{bar, show};
use crate::stderr::note;
use crate::texts::{self, FromRow, VectorFile};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tower that encodes the texts
    #[arg(long)]
    role: RoleArg,
    /// Texts: one per line (.txt), or rows with `text` or `query` (.jsonl, .csv, .tsv, .parquet)
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Vectors in input order: float32 [n, dim] (.npy), or rows (.jsonl)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Instruction: a template with `{text}`, or a prefix; by default as saved
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// PEFT adapter for the model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
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
    if is_same_file(&args.input, &args.output) {
        bail!("{} is both the input and the output", args.output.display());
    }
    let output = VectorFile::create(&args.output)?;
    let texts: Vec<T> = texts::read(&args.input)?;
    if args.model.batch_tokens == 0 {
        return Err(Error::setting("batch_tokens", 0, "at least 1").into());
    }
    let options = args.model.options(Own {
        instruction: args.instruction.as_ref(),
        adapter: args.adapter.as_ref(),
        ..Own::default()
    });
    let folder = args.model.locate()?.folder;
    let tower = load_tower::<T>(&folder, &options, &args.model.device()?)?;
    warn_without_instruction(args.model.name(), &folder, &[("--instruction", tower.summary())]);
    say(&tower);
    let progress = bar("embedding", texts.len());
    let mut cost = EmbedProgress::default();
    let embeddings = tower.embed_with_progress(&texts, args.model.batch_tokens, &mut |now| {
        show(&progress, now);
        cost = *now;
    })?;
    progress.finish_and_clear();
    note!("{} tokens, {:.1} % padding", cost.tokens, 100.0 * cost.padding_ratio());
    output.write(&texts, &embeddings, T::ROLE)
}

/// Whether two paths lead to one file, by whatever names.
fn is_same_file(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}
