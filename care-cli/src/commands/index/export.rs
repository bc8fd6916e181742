//! `care index export`

use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::index::{DiskIndex, VectorFormat};
use care_stores::parquet::export_parquet;
use care_stores::{PushOptions, push, verify};
use clap::ValueEnum;
use serde_json::json;

use super::add::VectorArg;
use super::store::{Database, PlaceArgs};
use crate::progress::Progress;
use crate::stderr::note;
use crate::stdout::print;

/// Vectors that are read back from a database.
const SAMPLE: usize = 200;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// What to write: a Parquet file (--output) or a database (--url, --name)
    #[arg(long)]
    to: Target,
    /// The Parquet file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Dtype of the written vectors
    #[arg(long, default_value = "f32")]
    vectors: VectorArg,
    /// Rows per request to a database
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Build an approximate index (HNSW) in pgvector when the rows are there
    #[arg(long)]
    hnsw: bool,
    /// Remove rows of the database that the index does not have
    #[arg(long)]
    remove_others: bool,
    /// Print the numbers of rows as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Parquet,
    Qdrant,
    Pgvector,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.check()?;
    let index = DiskIndex::open(&args.index)?;
    let vectors = args.vectors.format();
    let database = match args.to {
        Target::Parquet => return parquet(&args, &index, vectors),
        Target::Qdrant => Database::Qdrant,
        Target::Pgvector => Database::Pgvector,
    };
    let mut store = args.place.open_or_create(database, &index, vectors, args.hnsw)?;
    let options = PushOptions::default().with_batch(args.batch as usize).with_remove_others(args.remove_others);
    let progress = Progress::start("export", Some(index.len()), "documents");
    let report = push(&index, &mut *store, &options, &mut |rows| progress.set(rows))?;
    drop(progress);
    let verified = verify(&index, &mut *store, SAMPLE)?;
    note!(
        "{} has {} rows: {} written, {} there already, {} removed; {} read back",
        store.name(),
        verified.stored,
        report.written,
        report.rows - report.written,
        report.removed,
        verified.sampled
    );
    if args.json {
        let numbers = json!({
            "rows": report.rows, "written": report.written, "removed": report.removed, "stored": verified.stored,
            "missing": verified.missing, "different": verified.different, "sampled": verified.sampled,
        });
        print(&numbers.to_string())?;
    }
    if verified.missing + verified.different > 0 {
        bail!(
            "{} rows are missing and {} different, e.g. {:?}; run the command again",
            verified.missing,
            verified.different,
            verified.ids
        );
    }
    if verified.stored > verified.rows {
        let others = verified.stored - verified.rows;
        note!("warning: {others} rows are not of this index; --remove-others removes them");
    }
    Ok(())
}

fn parquet(args: &Args, index: &DiskIndex, vectors: VectorFormat) -> Result<()> {
    let Some(path) = &args.output else { bail!("which file? Give --output") };
    let progress = Progress::start("export", Some(index.len()), "documents");
    let rows = export_parquet(index, path, vectors, &mut |rows| progress.set(rows))?;
    drop(progress);
    note!("{rows} rows written to {}", path.display());
    if args.json { print(&json!({ "rows": rows }).to_string()) } else { Ok(()) }
}

impl Args {
    /// Refuses options of another target.
    fn check(&self) -> Result<()> {
        let is_file = self.to == Target::Parquet;
        let unused = [
            ("--output", !is_file && self.output.is_some()),
            ("--url and --name", is_file && self.place.is_given()),
            ("--remove-others", is_file && self.remove_others),
            ("--hnsw", self.to != Target::Pgvector && self.hnsw),
        ];
        match unused.into_iter().find(|(_, is_unused)| *is_unused) {
            Some((option, _)) => bail!("{option}: not an option of this target"),
            None => Ok(()),
        }
    }
}
