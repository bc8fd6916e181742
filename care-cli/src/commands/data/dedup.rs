//! `care data dedup`

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use care_core::files::AtomicFile;
use care_core::manifest::Input;
use care_core::ndarray::Array2;
use care_core::{Embeddings, Error, Role};
use care_data::dedup::{
    DedupCounts, DedupOptions, Deduplication, EmbeddedTexts, Keep, TextField, VectorOptions, Vectors,
};
use care_data::near::NearDuplicates;
use clap::ValueEnum;
use ndarray_npy::ReadNpyExt;
use serde_json::{Value, json};

use super::bad_rows::BadRowsArgs;
use crate::commands::manifest::write_manifest;
use crate::model::{CacheArgs, PairArgs};
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows in any of the forms, or rows with `text` (.jsonl or .jsonl.gz); several files are joined
    #[arg(required = true, value_name = "FILE")]
    rows: Vec<PathBuf>,
    /// Test queries or other rows: rows whose text is a duplicate of one of these are dropped as leaks
    #[arg(long, value_name = "FILE", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Fields whose texts are compared; by default `query` or `anchor`, or `text` of rows without
    #[arg(long = "field", value_name = "NAME,..", value_delimiter = ',')]
    fields: Vec<String>,
    /// Which of several duplicates is kept: first, longest or most-positives
    #[arg(long, value_name = "RULE", default_value = "first")]
    keep: Keep,
    /// Drop exact duplicates only: texts that differ in width, case, white space and punctuation at most
    #[arg(long)]
    exact: bool,
    /// Least Jaccard similarity of the character n-grams of near-duplicates
    #[arg(long, value_name = "X", default_value_t = 0.8, conflicts_with = "exact")]
    near: f64,
    /// Characters of an n-gram
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "exact")]
    ngram: usize,
    #[command(flatten)]
    vectors: VectorArgs,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// List each kept row with those that were dropped for it (.jsonl)
    #[arg(long, value_name = "FILE")]
    clusters: Option<PathBuf>,
    /// List the rows that were dropped as leaks (.jsonl)
    #[arg(long, value_name = "FILE", requires = "against")]
    leaks: Option<PathBuf>,
    /// The rows that are kept, each line as it was (.jsonl or .jsonl.gz)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Duplicates by vectors.
#[derive(clap::Args)]
struct VectorArgs {
    /// Drop texts whose vector is near to that of a kept one, too: vectors of all rows as float32 [n, dim] (.npy)
    #[arg(long, value_name = "FILE", group = "source", conflicts_with = "exact")]
    vectors: Option<PathBuf>,
    /// Vectors of the rows of --against
    #[arg(long, value_name = "FILE", requires = "vectors", requires = "against")]
    against_vectors: Option<PathBuf>,
    /// The same with vectors of this model, with its own settings; for others, see `care embed` and --vectors
    #[arg(long, value_name = "DIR|ORG/NAME", group = "source", conflicts_with = "exact")]
    model: Option<String>,
    /// Tower that encodes the texts
    #[arg(long, default_value = "query", requires = "model")]
    role: RoleArg,
    #[command(flatten)]
    cache: CacheArgs,
    /// Least cosine of duplicates by vectors
    #[arg(long, value_name = "X", requires = "source", default_value_t = VectorOptions::default().threshold)]
    threshold: f64,
    /// Rows that are drawn at random and considered first by their vectors, so that what is kept is spread
    #[arg(long, value_name = "N", requires = "source", default_value_t = VectorOptions::default().seeds)]
    seeds: usize,
    /// Seed of that draw
    #[arg(long, value_name = "N", requires = "source", default_value_t = VectorOptions::default().seed)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Query,
    Document,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let field = if args.fields.is_empty() { TextField::Auto } else { TextField::Named(args.fields.clone()) };
    let mut options = DedupOptions::default().with_field(field).with_keep(args.keep).with_skip_bad(args.bad.skips());
    if !args.exact {
        options = options.with_near(NearDuplicates::new(args.ngram, args.near)?);
    }
    if args.vectors.model.is_none() && args.vectors.cache.is_set() {
        bail!("--cache keeps vectors of --model, which is not given");
    }
    // A wrong path fails before the work.
    drop(AtomicFile::create(&args.output)?);
    let (found, model) = find(&args, options)?;
    let counts = found.counts();
    if counts.rows == 0 {
        bail!("no rows");
    }
    found.save_rows(&args.output)?;
    for (path, leaks) in [(&args.clusters, false), (&args.leaks, true)] {
        path.as_ref().map_or(Ok(()), |path| found.save_clusters(path, leaks))?;
    }
    let mut bad = args.bad.collect();
    found.into_bad().into_iter().try_for_each(|error| bad.take(error))?;
    bad.report(&args.output)?;
    write_manifests(&args, &counts, &model)?;
    report(&counts, &args.output);
    Ok(())
}

/// Finds the duplicates. Also returns the model for the manifest.
fn find(args: &Args, options: DedupOptions) -> Result<(Deduplication, Value)> {
    let VectorArgs { threshold, seeds, seed, .. } = args.vectors;
    let by_vectors = || options.clone().with_vectors(VectorOptions::new(threshold, seeds, seed));
    if let Some(path) = &args.vectors.vectors {
        let inputs = read_npy(path)?;
        let against = match &args.vectors.against_vectors {
            Some(path) => read_npy(path)?,
            None if args.against.is_empty() => Embeddings::zeros(0, inputs.dim()),
            None => bail!("--against with --vectors needs --against-vectors"),
        };
        let vectors = Vectors::new(&inputs, &against);
        return Ok((Deduplication::with_vectors(&args.rows, &args.against, &by_vectors(), vectors)?, Value::Null));
    }
    let Some(model) = &args.vectors.model else {
        return Ok((Deduplication::of(&args.rows, &args.against, &options)?, Value::Null));
    };
    let (pair, source) = PairArgs::alone(["--model", model])?.open()?;
    let loaded = args.vectors.cache.model(pair)?;
    let role = match args.vectors.role {
        RoleArg::Query => Role::Query,
        RoleArg::Document => Role::Document,
    };
    let texts = EmbeddedTexts::new(loaded.embedder(), role);
    let found = Deduplication::with_vectors(&args.rows, &args.against, &by_vectors(), Vectors::new(&texts, &texts))?;
    loaded.warn();
    Ok((found, source))
}

fn read_npy(path: &Path) -> Result<Embeddings> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let matrix = Array2::<f32>::read_npy(BufReader::new(file));
    let wanted = || format!("{}: no float32 matrix [n, dim]", path.display());
    Ok(matrix.with_context(wanted)?.into())
}

fn write_manifests(args: &Args, counts: &DedupCounts, model: &Value) -> Result<()> {
    let mut inputs = Vec::new();
    let vectors = [("vectors", &args.vectors.vectors), ("vectors of against", &args.vectors.against_vectors)];
    let vectors = vectors.into_iter().filter_map(|(role, path)| Some((role, path.as_ref()?)));
    let rows = args.rows.iter().map(|path| ("rows", path)).chain(args.against.iter().map(|path| ("against", path)));
    for (role, path) in rows.chain(vectors) {
        inputs.push(Input::of(role, path)?);
    }
    let mut options = json!({ "fields": args.fields, "keep": args.keep.as_str(), "skip_bad": args.bad.skips() });
    if !args.exact {
        options["near"] = json!({ "threshold": args.near, "ngram": args.ngram });
    }
    if args.vectors.vectors.is_some() || args.vectors.model.is_some() {
        let VectorArgs { threshold, seeds, seed, .. } = args.vectors;
        options["vectors"] = json!({ "threshold": threshold, "seeds": seeds, "seed": seed, "model": model });
    }
    let counts = serde_json::to_value(counts)?;
    let lists = [&args.clusters, &args.leaks].into_iter().flatten();
    for path in std::iter::once(&args.output).chain(lists) {
        write_manifest("data dedup", options.clone(), counts.clone(), inputs.clone(), path)?;
    }
    Ok(())
}

fn report(counts: &DedupCounts, output: &Path) {
    let DedupCounts { rows, kept, exact, near, vectors, leaks, empty, .. } = counts;
    note!("{kept} of {rows} rows in {}; dropped: {exact} exact, {near} near, {vectors} by vectors", output.display());
    if *leaks > 0 {
        note!("{leaks} of the dropped rows are leaks");
    }
    if *empty > 0 {
        note!("warning: {empty} rows have no text to compare and were kept");
    }
}
