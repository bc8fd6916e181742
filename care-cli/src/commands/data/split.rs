//! `care data split`

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use care_core::Error;
use care_core::manifest::Input;
use care_data::near::NearDuplicates;
use care_data::split::{SplitOptions, parse_splits, split_rows};
use serde_json::json;

use crate::commands::manifest::write_manifest;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows (.jsonl or .jsonl.gz)
    #[arg(value_name = "FILE")]
    rows: PathBuf,
    /// Names and shares of the parts
    #[arg(long, value_name = "NAME=SHARE,..", default_value = "train=0.9,dev=0.1")]
    into: String,
    /// Least Jaccard similarity of the character trigrams of near-duplicates
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    threshold: f64,
    /// Keep rows with near-duplicate positives together too
    #[arg(long)]
    with_positives: bool,
    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder for the parts: NAME.jsonl each
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let splits = parse_splits(&args.into)?;
    let near = NearDuplicates::new(3, args.threshold)?;
    fs::create_dir_all(&args.output).map_err(|e| Error::io("create", &args.output, e))?;
    let path_of = |name: &str| args.output.join(format!("{name}.jsonl"));
    let options =
        SplitOptions::new(splits.clone()).with_near(near).with_positives(args.with_positives).with_seed(args.seed);
    let counts = split_rows(&args.rows, &path_of, &options)?;
    let settings = json!({
        "into": args.into, "threshold": args.threshold, "with_positives": args.with_positives, "seed": args.seed,
    });
    let input = Input::of("rows", &args.rows)?;
    for (split, rows) in splits.iter().zip(counts) {
        let (path, counts) = (path_of(&split.name), json!({ "rows": rows }));
        write_manifest("data split", settings.clone(), counts, vec![input.clone()], &path)?;
        note!("{rows} rows in {}", path.display());
    }
    Ok(())
}
