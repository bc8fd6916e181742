//! `care data convert`

use std::path::PathBuf;

use anyhow::{Result, bail};
use care_core::manifest::Input;
use care_data::rows::{RowFormat, RowWriter, for_each_usable_example};
use serde_json::json;

use super::bad_rows::BadRowsArgs;
use crate::commands::manifest::write_manifest;
use crate::progress::Progress;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Training rows in any of the forms (.jsonl, .csv, .tsv, each also .gz, or .parquet); several files are joined
    #[arg(required = true, value_name = "FILE")]
    rows: Vec<PathBuf>,
    /// Form of the output: flagembedding, triplet, n-tuple-N (e.g. n-tuple-7) or tevatron
    #[arg(long, value_name = "FORM", default_value = "flagembedding")]
    format: RowFormat,
    #[command(flatten)]
    bad: BadRowsArgs,
    /// The converted rows (.jsonl, .jsonl.gz or .parquet)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut writer = RowWriter::create(&args.output, args.format)?;
    let (mut bad, mut read) = (args.bad.collect(), 0);
    let progress = Progress::start("convert", None, "rows");
    for path in &args.rows {
        let mut convert = |_, row| {
            read += 1;
            progress.set(read);
            writer.write(&row)
        };
        for_each_usable_example(path, &mut convert, &mut |error| bad.take(error))?;
    }
    progress.finish();
    if read == 0 {
        bail!("no training rows");
    }
    let left_out = writer.left_out();
    let written = writer.finish()?;
    if left_out > 0 {
        note!("warning: {left_out} of {read} rows have too few negatives for {} and were left out", args.format);
    }
    bad.report(&args.output)?;
    let inputs = args.rows.iter().map(|path| Input::of("rows", path)).collect::<care_core::Result<_>>()?;
    let counts = json!({
        "rows read": read, "rows left out": left_out, "bad rows": bad.count(), "rows written": written,
    });
    write_manifest("data convert", json!({ "format": args.format.to_string() }), counts, inputs, &args.output)?;
    note!("{written} rows in {}", args.output.display());
    Ok(())
}
