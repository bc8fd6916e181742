//! The progress of a job over all its workers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use care_core::Result;
use serde::Serialize;

use crate::job::{Job, WORKERS};
use crate::state::WorkerState;

/// The progress of a job.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Shards of the plan.
    pub shards: usize,
    /// Shards that are committed.
    pub committed: usize,
    /// Shards that cannot be encoded.
    pub failed: usize,
    /// Shards that a worker has claimed.
    pub claimed: usize,
    /// Bytes of input.
    pub bytes: f64,
    /// Bytes of input whose shards are committed.
    pub committed_bytes: f64,
    /// Rows that are committed, as workers say: a worker says so when it claims its next shard.
    pub rows: u64,
    /// Seconds of all workers' time, which is what costs; those of killed ones to their last sign of life.
    pub worker_seconds: f64,
    /// Seconds that the active workers need for what is left; none without an active worker that has committed a shard.
    pub seconds_left: Option<f64>,
    /// The workers, by name.
    pub workers: Vec<WorkerStatus>,
}

/// A worker as it described itself last.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// What it has done.
    #[serde(flatten)]
    pub state: WorkerState,
    /// Seconds since it said so, by the clocks of the store and of this machine.
    pub silent_seconds: f64,
    /// Whether it has not ended, and was silent for less than two leases.
    pub active: bool,
}

impl Status {
    /// What the workers' time has cost, at a price per hour of one.
    pub fn cost(&self, price_per_hour: f64) -> f64 {
        self.worker_seconds / 3600.0 * price_per_hour
    }
}

impl Job {
    /// The progress of the job, by the names of what is committed and one small object per worker. `lease` is the workers'.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn status(&self, lease: Duration) -> Result<Status> {
        let (committed, leased, failed) = (self.committed()?, self.leased()?, self.failed()?);
        let workers = self.workers(lease)?;
        let sum = |of: fn(&WorkerState) -> f64| workers.iter().map(|worker| of(&worker.state)).sum::<f64>();
        let bytes: f64 = self.plan.inputs.iter().map(|input| input.bytes as f64).sum();
        let committed_bytes: f64 = committed.iter().map(|shard| self.plan.bytes(*shard)).sum();
        let mean = sum(|state| state.bytes) / sum(|state| state.busy_seconds);
        // One that has committed nothing yet is taken to be as fast as the others.
        let speed_of = |state: &WorkerState| if state.shards > 0 { state.bytes / state.busy_seconds } else { mean };
        let active = workers.iter().filter(|worker| worker.active);
        let speed: f64 = active.map(|worker| speed_of(&worker.state)).sum();
        let left = (bytes - committed_bytes).max(0.0) / speed;
        Ok(Status {
            shards: self.plan.shards.len(),
            committed: committed.len(),
            failed: failed.difference(&committed).count(),
            claimed: leased.keys().filter(|shard| !committed.contains(shard)).count(),
            bytes,
            committed_bytes,
            rows: workers.iter().map(|worker| worker.state.rows).sum(),
            worker_seconds: sum(|state| state.seconds),
            seconds_left: left.is_finite().then_some(left),
            workers,
        })
    }

    fn workers(&self, lease: Duration) -> Result<Vec<WorkerStatus>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let mut workers = Vec::new();
        for found in self.storage.list(WORKERS)? {
            let json = self.storage.get(&format!("{WORKERS}/{}", found.name))?;
            // What cannot be read was left by a writer that was killed.
            if let Some(state) = json.and_then(|json| serde_json::from_slice::<WorkerState>(&json).ok()) {
                let silent_seconds = (now - found.modified as f64).max(0.0);
                let active = !state.ended && silent_seconds < 2.0 * lease.as_secs_f64();
                workers.push(WorkerStatus { state, silent_seconds, active });
            }
        }
        Ok(workers)
    }
}
