//! A job: a plan in a place, and the names of what workers put there.

use std::collections::{BTreeMap, BTreeSet};

use care_core::Result;

use crate::plan::Plan;
use crate::storage::{Storage, Stores};

/// Folders in the place of a job.
pub(crate) const VECTORS: &str = "vectors";
pub(crate) const WORKERS: &str = "workers";
const COMMITS: &str = "commits";
const LEASES: &str = "leases";
const FAILURES: &str = "failures";

/// A job of encoding a corpus: its plan, and what workers have put beside it.
#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) stores: Stores,
    pub(crate) storage: Storage,
    pub(crate) plan: Plan,
    /// SHA-256 of the plan.
    pub(crate) id: String,
}

impl Job {
    /// Reads the plan of a job.
    ///
    /// # Errors
    /// If the place has no plan, or one of another version.
    pub fn open(stores: &Stores, place: &str) -> Result<Self> {
        let storage = stores.open(place)?;
        let (plan, id) = Plan::read(&storage)?;
        Ok(Self { stores: stores.clone(), storage, plan, id })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The marker that says which vectors are those of a shard.
    pub(crate) fn commit(&self, shard: usize) -> String {
        format!("{COMMITS}/{shard:08}.json")
    }

    /// Why a shard cannot be encoded.
    pub(crate) fn failure(&self, shard: usize) -> String {
        format!("{FAILURES}/{shard:08}.json")
    }

    /// The claim of a shard; each takeover has the next generation.
    pub(crate) fn lease(&self, shard: usize, generation: u32) -> String {
        format!("{LEASES}/{shard:08}.{generation}.json")
    }

    /// The vectors that an attempt computes for a shard.
    pub(crate) fn vectors(&self, shard: usize, attempt: &str) -> String {
        format!("{VECTORS}/{shard:08}-{attempt}.parquet")
    }

    /// The state of a worker.
    pub(crate) fn worker(&self, worker: &str) -> String {
        format!("{WORKERS}/{worker}.json")
    }

    /// The shards that are committed.
    pub(crate) fn committed(&self) -> Result<BTreeSet<usize>> {
        self.shards_in(COMMITS)
    }

    /// The shards that cannot be encoded.
    pub(crate) fn failed(&self) -> Result<BTreeSet<usize>> {
        self.shards_in(FAILURES)
    }

    fn shards_in(&self, folder: &str) -> Result<BTreeSet<usize>> {
        let found = self.storage.list(folder)?;
        let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
        Ok(found.iter().filter_map(|found| number(&found.name)).collect())
    }

    /// The claimed shards, each with its latest generation.
    pub(crate) fn leased(&self) -> Result<BTreeMap<usize, u32>> {
        let mut leased = BTreeMap::new();
        for found in self.storage.list(LEASES)? {
            let parsed = found.name.strip_suffix(".json").and_then(|name| name.split_once('.'));
            if let Some((Ok(shard), Ok(generation))) =
                parsed.map(|(shard, number)| (shard.parse(), number.parse::<u32>()))
            {
                let latest = leased.entry(shard).or_insert(generation);
                *latest = generation.max(*latest);
            }
        }
        Ok(leased)
    }

    /// Removes the claims of a shard up to a generation.
    pub(crate) fn release(&self, shard: usize, generation: u32) -> Result<()> {
        (0..=generation).try_for_each(|generation| self.storage.delete(&self.lease(shard, generation)))
    }
}
