//! Checks that every row has one vector of the plan's tower, and that no byte has changed since.

use std::collections::{BTreeMap, BTreeSet};

use care_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::commit::{Commit, Joint, digest_of};
use crate::job::{Job, VECTORS};
use crate::state::Failure;

/// What is wrong with a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Damage {
    /// Number of the shard.
    pub shard: usize,
    /// The problem.
    pub problem: String,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Shards of the plan.
    pub shards: usize,
    /// Rows of intact shards.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Shards that are not committed.
    pub missing: Vec<usize>,
    /// Shards that are not committed because a row cannot be encoded.
    pub failed: Vec<Damage>,
    /// Shards that are committed, but whose vectors are damaged, missing, or of other texts or another tower.
    pub damaged: Vec<Damage>,
    /// Files of vectors that no marker names: what workers that were killed left, or are writing.
    pub leftovers: Vec<String>,
}

impl Verification {
    /// Whether every row has its vector.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.failed.is_empty() && self.damaged.is_empty()
    }
}

impl Job {
    /// Reads all vectors and checks them: checksums, tower, and that the shards join without a gap. With `texts`, the
    /// inputs are read too, and compared with what was encoded.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn verify(&self, texts: bool, observe: &mut dyn FnMut(usize)) -> Result<Verification> {
        let failed = self.failed()?;
        let mut result = Verification { shards: self.plan.shards.len(), ..Default::default() };
        let (mut named, mut joint) = (BTreeSet::new(), Joint::default());
        for shard in 0..result.shards {
            let checked = self.check(shard, texts, &mut joint, &mut named);
            if !matches!(checked, Ok(Some(_))) {
                joint.forget();
            }
            match checked {
                Ok(Some(commit)) => {
                    result.rows += commit.rows;
                    result.bytes += commit.bytes;
                }
                Ok(None) if failed.contains(&shard) => {
                    result.failed.push(Damage { shard, problem: self.why(shard)? });
                }
                Ok(None) => result.missing.push(shard),
                // A store or an input that cannot be read says nothing about a shard.
                Err(e) if e.kind() != ErrorKind::Format => return Err(e),
                Err(e) => result.damaged.push(Damage { shard, problem: e.to_string() }),
            }
            observe(shard + 1);
        }
        let found = self.storage.list(VECTORS)?.into_iter().map(|found| found.name);
        result.leftovers = found.filter(|name| !named.contains(name)).collect();
        Ok(result)
    }

    fn check(
        &self,
        shard: usize,
        texts: bool,
        joint: &mut Joint,
        named: &mut BTreeSet<String>,
    ) -> Result<Option<Commit>> {
        let Some(commit) = Commit::read(self, shard)? else { return Ok(None) };
        let name = self.vectors(shard, &commit.attempt);
        named.insert(name.trim_start_matches(VECTORS).trim_start_matches('/').to_owned());
        joint.check(self, &commit)?;
        commit.table(self)?;
        if texts {
            let (input, part) = self.plan.part(shard);
            let rows = input.read(&self.stores, &self.plan.fields, part)?.rows;
            if digest_of(&rows) != commit.texts {
                let problem = "the input has other texts than were encoded";
                return Err(Error::format(self.storage.url_of(&self.commit(shard)), problem));
            }
        }
        Ok(Some(commit))
    }

    fn why(&self, shard: usize) -> Result<String> {
        let json = self.storage.get(&self.failure(shard))?;
        let failure = json.and_then(|json| serde_json::from_slice::<Failure>(&json).ok());
        Ok(failure.map_or("the reason cannot be read".to_owned(), |failure| failure.error))
    }

    /// Has damaged and failed shards encoded again by the next worker, and removes the files that no marker names. No worker
    /// may run.
    ///
    /// # Errors
    /// If the store cannot be changed.
    pub fn repair(&self, found: &Verification) -> Result<()> {
        let leased: BTreeMap<usize, u32> = self.leased()?;
        for Damage { shard, .. } in &found.damaged {
            let named = Commit::read(self, *shard).ok().flatten();
            self.storage.delete(&self.commit(*shard))?;
            if let Some(commit) = named {
                self.storage.delete(&self.vectors(*shard, &commit.attempt))?;
            }
        }
        found.failed.iter().try_for_each(|damage| self.storage.delete(&self.failure(damage.shard)))?;
        leased.into_iter().try_for_each(|(shard, generation)| self.release(shard, generation))?;
        found.leftovers.iter().try_for_each(|name| self.storage.delete(&format!("{VECTORS}/{name}")))
    }
}
