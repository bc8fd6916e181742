//! Options that several steps of `care encode` have.

use std::time::Duration;

use anyhow::{Result, bail};
use care_shard::{Job, Stores};

/// The place of a job.
#[derive(clap::Args)]
pub(super) struct JobArgs {
    /// Place of the job: a folder, or a URL (s3://, gs://, az://) where that is compiled in
    #[arg(long, value_name = "DIR|URL")]
    job: String,
}

impl JobArgs {
    pub(super) fn open(&self) -> Result<Job> {
        Ok(Job::open(&Stores::new()?, &self.job)?)
    }
}

/// The time after which a silent worker is given up.
#[derive(clap::Args)]
pub(super) struct LeaseArgs {
    /// Seconds without a sign of life after which a worker's shard is taken over; the same for all workers
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    lease: f64,
}

impl LeaseArgs {
    pub(super) fn lease(&self) -> Result<Duration> {
        match Duration::try_from_secs_f64(self.lease) {
            Ok(lease) if !lease.is_zero() => Ok(lease),
            _ => bail!("--lease is {}, allowed: more than 0 seconds", self.lease),
        }
    }
}
