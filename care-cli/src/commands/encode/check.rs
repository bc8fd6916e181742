//! `care encode status`, `verify` and `merge`

use std::path::PathBuf;

use anyhow::{Result, bail};
use care_shard::{Damage, Status, Verification};
use serde_json::json;

use super::shared::{JobArgs, LeaseArgs};
use crate::progress::Progress;
use crate::stderr::note;
use crate::stdout::print;

/// Shards that are listed by name.
const LISTED: usize = 20;

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    lease: LeaseArgs,
    /// Price of a worker's hour
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<f64>,
    /// Print everything, with every worker, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Also read the inputs again, and compare their texts with what was encoded
    #[arg(long)]
    texts: bool,
    /// Have damaged and failed shards encoded again by the next worker, and remove what killed workers left. No worker may
    /// run
    #[arg(long)]
    repair: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct MergeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// All vectors in the order of the documents: ids and vectors (.parquet), or float32 [n, dim] (.npy)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn status(args: &StatusArgs) -> Result<()> {
    let status = args.job.open()?.status(args.lease.lease()?)?;
    let cost = args.price_per_hour.map(|price| status.cost(price));
    if args.json {
        return print(&json!({ "status": status, "cost": cost }).to_string());
    }
    print(&described(&status, cost))
}

fn described(status: &Status, cost: Option<f64>) -> String {
    let active = status.workers.iter().filter(|worker| worker.active).count();
    let mut text = format!(
        "{} of {} shards, {:.1} %, {} documents\n{} workers active, {} shards claimed",
        status.committed,
        status.shards,
        100.0 * status.committed_bytes / status.bytes.max(1.0),
        status.rows,
        active,
        status.claimed,
    );
    if status.failed > 0 {
        text += &format!("\n{} shards cannot be encoded; `care encode verify` says why", status.failed);
    }
    if let Some(seconds) = status.seconds_left.filter(|_| status.committed < status.shards) {
        text += &format!("\n{:.2} hours left", seconds / 3600.0);
    }
    text += &format!("\n{:.2} hours of workers so far", status.worker_seconds / 3600.0);
    cost.map_or(text.clone(), |cost| format!("{text}, {cost:.2} in money"))
}

pub(super) fn verify(args: &VerifyArgs) -> Result<()> {
    let job = args.job.open()?;
    let progress = Progress::start("checking", Some(job.plan().shards.len()), "shards");
    let found = job.verify(args.texts, &mut |shards| progress.set(shards))?;
    progress.finish();
    if args.json {
        print(&json!(found).to_string())?;
    } else {
        note!("{} rows of {} shards are intact", found.rows, found.shards - missing(&found));
        list("damaged", &found.damaged);
        list("cannot be encoded", &found.failed);
        if !found.leftovers.is_empty() {
            note!("{} files of vectors belong to no shard", found.leftovers.len());
        }
    }
    if args.repair {
        job.repair(&found)?;
        note!("repaired: `care encode work` encodes what is missing");
    }
    match missing(&found) {
        0 => Ok(()),
        count => bail!("{count} of {} shards have no intact vectors", found.shards),
    }
}

fn missing(found: &Verification) -> usize {
    found.missing.len() + found.failed.len() + found.damaged.len()
}

fn list(what: &str, shards: &[Damage]) {
    for Damage { shard, problem, .. } in shards.iter().take(LISTED) {
        note!("shard {shard} {what}: {problem}");
    }
    if shards.len() > LISTED {
        note!("{} more shards {what}", shards.len() - LISTED);
    }
}

pub(super) fn merge(args: &MergeArgs) -> Result<()> {
    let job = args.job.open()?;
    let progress = Progress::start("merging", Some(job.plan().shards.len()), "shards");
    let merged = job.merge(&args.output, &mut |shards| progress.set(shards))?;
    progress.finish();
    note!("{} vectors of {} shards in {}", merged.rows, merged.shards, args.output.display());
    Ok(())
}
