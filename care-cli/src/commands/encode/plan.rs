//! `care encode plan`

use std::time::Duration;

use anyhow::{Result, bail};
use care_core::Document;
use care_encoders::AsymmetricEncoder;
use care_shard::{Dtype, Estimate, EstimateOptions, Fields, Plan, PlanOptions, Stores};
use serde_json::json;

use crate::model::PairArgs;
use crate::stderr::note;
use crate::stdout::print;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Documents: a .jsonl or .parquet file, or a folder of such; a path or a URL. May be repeated
    #[arg(long, value_name = "FILE|DIR|URL", required = true)]
    input: Vec<String>,
    /// Place of the job: a folder, or a URL (s3://, gs://, az://) where that is compiled in
    #[arg(long, value_name = "DIR|URL", required_unless_present = "estimate")]
    job: Option<String>,
    /// Dtype of the stored vectors: f32, f16 or int8
    #[arg(long, default_value = "f16")]
    dtype: Dtype,
    /// Rows per shard; of JSON Lines, on average
    #[arg(long, value_name = "N", default_value_t = PlanOptions::default().shard_rows)]
    shard_rows: u64,
    /// Bytes per shard of JSON Lines, instead of a number of rows
    #[arg(long, value_name = "N")]
    shard_bytes: Option<u64>,
    /// Field of the id; `_id` may also be called `id`
    #[arg(long, value_name = "NAME", default_value_t = Fields::default().id)]
    id_field: String,
    /// Field of the title, which may be absent
    #[arg(long, value_name = "NAME", default_value_t = Fields::default().title)]
    title_field: String,
    /// Field of the text
    #[arg(long, value_name = "NAME", default_value_t = Fields::default().text)]
    text_field: String,
    /// Make no plan; measure on a sample, and print hours, bytes and money for the corpus
    #[arg(long, conflicts_with = "job")]
    estimate: bool,
    /// Seconds of measuring
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, requires = "estimate")]
    seconds: f64,
    /// Numbers of workers to estimate for, each like this process
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", requires = "estimate")]
    workers: Vec<usize>,
    /// Price of a worker's hour
    #[arg(long, value_name = "PRICE", requires = "estimate")]
    price_per_hour: Option<f64>,
    /// Print the estimate as JSON
    #[arg(long, requires = "estimate")]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let Ok(time) = Duration::try_from_secs_f64(args.seconds) else {
        bail!("--seconds is {}, allowed: at least 0", args.seconds);
    };
    let stores = Stores::new()?;
    let (pair, _) = args.pair.open()?;
    let fields = Fields { id: args.id_field.clone(), title: args.title_field.clone(), text: args.text_field.clone() };
    let options = PlanOptions::default()
        .with_dtype(args.dtype)
        .with_shard_rows(args.shard_rows)
        .with_shard_bytes(args.shard_bytes)
        .with_fields(fields);
    let plan = Plan::new(&stores, &args.input, &pair, &options)?;
    let Some(job) = &args.job else { return estimate(args, &stores, &pair, &plan, time) };
    plan.create(&stores.open(job)?)?;
    let (shards, files) = (plan.shards.len(), plan.inputs.len());
    note!("{shards} shards of {files} files; vectors of {} dimensions in {}", plan.dim, plan.dtype.as_str());
    Ok(())
}

fn estimate(args: &Args, stores: &Stores, pair: &AsymmetricEncoder, plan: &Plan, time: Duration) -> Result<()> {
    let document = pair.document();
    let tokens = |documents: &[Document]| Ok(document.tokenize(documents)?.iter().map(Vec::len).sum());
    note!("measuring for {:.0} s", args.seconds);
    let options = EstimateOptions::default().with_time(time);
    let found = plan.estimate(stores, pair, Some(&tokens), &options)?;
    if args.json { print(&as_json(args, &found).to_string()) } else { print(&as_text(args, &found)) }
}

/// Hours and money for every number of workers.
fn rows<'a>(args: &'a Args, found: &'a Estimate) -> impl Iterator<Item = (usize, f64, Option<f64>)> + 'a {
    let money = |workers: usize, hours: f64| Some(args.price_per_hour? * hours * workers as f64);
    args.workers.iter().map(move |workers| {
        let hours = found.hours(*workers);
        (*workers, hours, money(*workers, hours))
    })
}

fn as_json(args: &Args, found: &Estimate) -> serde_json::Value {
    let row = |(workers, hours, money)| json!({ "workers": workers, "hours": hours, "money": money });
    json!({ "estimate": found, "runs": rows(args, found).map(row).collect::<Vec<_>>() })
}

fn as_text(args: &Args, found: &Estimate) -> String {
    let tokens = found.tokens_per_document.map_or_else(String::new, |tokens| format!(" of {tokens:.0} tokens"));
    let mut text = format!(
        "measured: {} documents in {:.1} s, {:.2} per second\n\
         corpus: {:.0} documents{tokens}, {} of input, {} shards\n\
         vectors: {} in {}\n",
        found.sample,
        found.sample_seconds,
        1.0 / found.seconds_per_document,
        found.documents,
        size(found.input_bytes),
        found.shards,
        size(found.output_bytes),
        args.dtype.as_str(),
    );
    for (workers, hours, money) in rows(args, found) {
        let money = money.map_or_else(String::new, |money| format!(", {money:.2} in money"));
        text += &format!("{workers} workers: {hours:.3} hours ± {:.0} %{money}\n", 100.0 * found.relative_error);
    }
    text.trim_end().to_owned()
}

/// Bytes in a unit that people read.
fn size(bytes: f64) -> String {
    match bytes {
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        ..1e12 => format!("{:.1} GB", bytes / 1e9),
        _ => format!("{:.1} TB", bytes / 1e12),
    }
}
