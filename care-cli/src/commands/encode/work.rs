//! `care encode work`

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use care_shard::{Worker, WorkerOptions};

use super::shared::{JobArgs, LeaseArgs};
use crate::interrupt::stop_on_ctrl_c;
use crate::model::PairArgs;
use crate::progress::Progress;
use crate::stderr::note;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    lease: LeaseArgs,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (job, lease) = (args.job.open()?, args.lease.lease()?);
    let (pair, _) = args.pair.open()?;
    let mut worker = Worker::new(&job, &pair, WorkerOptions::default().with_lease(lease))?;
    let stop = stop_on_ctrl_c(Some("these documents"))?;
    let progress = Progress::start("encoding", None, "documents");
    let state = worker.run(&mut |now| {
        progress.set(now.state.rows as usize + now.embedded);
        let doing = now.shard.map_or("waiting for other workers".to_owned(), |shard| format!("shard {shard}"));
        progress.set_message(doing);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    note!("{} shards with {} documents in {:.1} s", state.shards, state.rows, state.seconds);
    if stop.load(Ordering::Relaxed) {
        bail!("stopped; other workers, or this command again, do the rest");
    }
    if state.failed > 0 {
        bail!("{} shards cannot be encoded; `care encode verify` says why", state.failed);
    }
    Ok(())
}
