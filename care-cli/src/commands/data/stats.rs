//! `care data stats`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use care_core::files::write_atomic;
use care_core::manifest::Input;
use care_data::stats::collect_stats;
use serde_json::json;

use crate::commands::manifest::write_manifest;
use crate::stderr::note;

/// Bad rows that are shown.
const SHOWN: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows in any of the forms (.jsonl, .csv, .tsv, each also .gz, or .parquet); several files are joined
    #[arg(required = true, value_name = "FILE")]
    rows: Vec<PathBuf>,
    /// Count rows that cannot be read and show the first, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Also write the numbers to a file (.json)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut shown = 0;
    let stats = collect_stats(&args.rows, &mut |error| {
        if !args.skip_bad {
            return Err(error);
        }
        shown += 1;
        if shown <= SHOWN {
            note!("bad row: {error}");
        }
        Ok(())
    })?;
    if let Some(path) = &args.output {
        write_atomic(path, serde_json::to_string_pretty(&stats)? + "\n")?;
        let inputs = args.rows.iter().map(|path| Input::of("rows", path)).collect::<care_core::Result<_>>()?;
        let counts = json!({ "rows": stats.rows, "bad rows": stats.bad });
        write_manifest("data stats", json!({ "skip_bad": args.skip_bad }), counts, inputs, path)?;
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{stats}")?;
    Ok(out.flush()?)
}
