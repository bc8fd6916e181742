//! Which shard a worker encodes next. Claims save work; what is committed never depends on them.
//!
//! A claim is an object that is created unless it exists. Its owner is alive as long as the owner's own object, with a
//! counter in it, changes. Another worker takes the shard over when it has seen no change for the time of a lease *by its own
//! monotonic clock*: no time of one machine is compared with that of another, or of the store, so clocks may be wrong by
//! any amount. The price is that a takeover needs one lease of watching.

use std::collections::HashMap;
use std::time::Duration;

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::state::WorkerState;

/// Claims in a row that others had before, until the worker lists what is free.
const COLLISIONS: usize = 8;
/// Claims of others that a worker without a shard watches.
const WATCHED: usize = 32;
/// An owner that is alive is overtaken after so many times what the shard would have taken here.
const PATIENCE: f64 = 3.0;

/// The content of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    /// The owner.
    pub(crate) worker: String,
    /// Its attempt at the shard.
    pub(crate) attempt: String,
}

/// A shard that this worker has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) shard: usize,
    pub(crate) generation: u32,
    pub(crate) attempt: String,
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Encode(Claim),
    /// Others encode what is left.
    Wait,
    /// Every shard is committed, or cannot be encoded.
    Done,
}

/// A claim of another worker, as it was seen last.
#[derive(Debug)]
struct Watched {
    generation: u32,
    /// The owner's counter, if the owner was seen at this attempt.
    beat: Option<u64>,
    /// When the claim was seen first, by this machine's clock.
    first: Duration,
    /// When its state was seen first.
    since: Duration,
}

/// What a worker knows of the claims of all.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Where this worker begins, so that workers meet seldom.
    offset: usize,
    /// Shards that nobody had claimed, the next one last.
    free: Vec<usize>,
    watched: HashMap<usize, Watched>,
}

impl Claims {
    /// `seed` differs from worker to worker.
    pub(crate) fn new(seed: u64) -> Self {
        Self { offset: seed as usize, free: Vec::new(), watched: HashMap::new() }
    }

    /// The next shard of a worker, at the time `now` of its clock. `seconds` is what this worker expects to take for a shard.
    pub(crate) fn next(
        &mut self,
        job: &Job,
        me: &WorkerState,
        lease: Duration,
        now: Duration,
        seconds: &dyn Fn(usize) -> Option<f64>,
    ) -> Result<Next> {
        loop {
            for shard in (0..COLLISIONS).map_while(|_| self.free.pop()) {
                if let Some(claim) = claim(job, me, shard, 0)? {
                    return Ok(Next::Encode(claim));
                }
            }
            let leased = self.refresh(job)?;
            if !self.free.is_empty() {
                continue;
            }
            if leased.is_empty() {
                return Ok(Next::Done);
            }
            for (shard, generation) in leased {
                let watched = self.watch(job, shard, generation, now)?;
                let slow =
                    seconds(shard).map_or(Duration::MAX, |expected| Duration::from_secs_f64(PATIENCE * expected));
                let is_dead = now.saturating_sub(watched.since) >= lease;
                let is_slow = now.saturating_sub(watched.first) >= slow.max(lease);
                if (is_dead || is_slow)
                    && let Some(claim) = claim(job, me, shard, generation + 1)?
                {
                    self.watched.remove(&shard);
                    return Ok(Next::Encode(claim));
                }
            }
            return Ok(Next::Wait);
        }
    }

    /// Lists what is free, and returns some of what others have claimed and not committed.
    fn refresh(&mut self, job: &Job) -> Result<Vec<(usize, u32)>> {
        let leased = job.leased()?;
        let (committed, failed) = (job.committed()?, job.failed()?);
        let count = job.plan.shards.len();
        let from_offset = (0..count).map(|at| (at + self.offset % count) % count);
        let open: Vec<usize> =
            from_offset.filter(|shard| !committed.contains(shard) && !failed.contains(shard)).collect();
        self.free = open.iter().rev().copied().filter(|shard| !leased.contains_key(shard)).collect();
        self.watched.retain(|shard, _| leased.contains_key(shard) && !committed.contains(shard));
        Ok(open.iter().filter_map(|shard| Some((*shard, *leased.get(shard)?))).take(WATCHED).collect())
    }

    /// Looks at a claim and its owner.
    fn watch(&mut self, job: &Job, shard: usize, generation: u32, now: Duration) -> Result<&Watched> {
        let beat = beat_of(job, shard, generation)?;
        let new = Watched { generation, beat, first: now, since: now };
        let watched = self.watched.entry(shard).or_insert(new);
        if watched.generation != generation {
            *watched = Watched { generation, beat, first: now, since: now };
        } else if watched.beat != beat {
            (watched.beat, watched.since) = (beat, now);
        }
        Ok(watched)
    }
}

/// The counter of a claim's owner, if the owner says that it works on this claim.
fn beat_of(job: &Job, shard: usize, generation: u32) -> Result<Option<u64>> {
    let Some(lease) = job.storage.get(&job.lease(shard, generation))? else { return Ok(None) };
    // What cannot be read was left by a writer that was killed.
    let Ok(lease) = serde_json::from_slice::<Lease>(&lease) else { return Ok(None) };
    let state = job.storage.get(&job.worker(&lease.worker))?;
    let state = state.and_then(|state| serde_json::from_slice::<WorkerState>(&state).ok());
    Ok(state.filter(|state| state.attempt.as_ref() == Some(&lease.attempt)).map(|state| state.beat))
}

/// Claims a shard for a worker, unless another one has.
fn claim(job: &Job, me: &WorkerState, shard: usize, generation: u32) -> Result<Option<Claim>> {
    let attempt = format!("{}-{}", me.worker, me.attempts + 1);
    let lease = Lease { worker: me.worker.clone(), attempt: attempt.clone() };
    let json = serde_json::to_vec(&lease);
    let json = json.map_err(|e| Error::new(ErrorKind::Format, "a lease cannot be written").with_source(e))?;
    if !job.storage.create(&job.lease(shard, generation), json)? {
        return Ok(None);
    }
    // Who commits a shard removes its leases, so a list made before may call it free.
    if job.storage.head(&job.commit(shard))?.is_some() {
        job.storage.delete(&job.lease(shard, generation))?;
        return Ok(None);
    }
    Ok(Some(Claim { shard, generation, attempt }))
}
