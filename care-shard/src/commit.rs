//! The marker of a shard: which file has its vectors, and what that file must contain.

use care_core::files::{hex, sha256_hex};
use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::input::Row;
use crate::job::Job;
use crate::table::{Origin, Table};

/// The result of a shard. It is created once, which makes one attempt the only one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    /// SHA-256 of the plan.
    pub(crate) plan: String,
    /// Number of the shard.
    pub(crate) shard: usize,
    /// The attempt that computed the vectors, part of their file's name.
    pub(crate) attempt: String,
    /// Rows, 0 if no row begins in the shard.
    pub(crate) rows: u64,
    /// First byte that was read, or first row of Parquet.
    pub(crate) start: u64,
    /// The byte or row behind the last.
    pub(crate) end: u64,
    /// SHA-256 of the shard's ids, titles and texts.
    pub(crate) texts: String,
    /// Size of the file of vectors in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the file of vectors.
    pub(crate) sha256: String,
}

/// Where the shard before ended: its file, and the byte or row.
#[derive(Debug, Default)]
pub(crate) struct Joint(Option<(usize, u64)>);

impl Joint {
    /// Checks that a shard begins where the one before ended, if that is known, and that the last one of a file ends with it.
    pub(crate) fn check(&mut self, job: &Job, commit: &Commit) -> Result<()> {
        let (file, (input, part)) = (job.plan.shards[commit.shard].input, job.plan.part(commit.shard));
        let begin = if part.start == 0 { Some((file, 0)) } else { self.0 };
        self.0 = Some((file, commit.end));
        let is_joined = begin.is_none_or(|begin| begin == (file, commit.start));
        let is_whole = part.end != input.len() || commit.end == part.end;
        if is_joined && is_whole {
            return Ok(());
        }
        let problem = "the shard does not begin where the one before ends, or its file goes on";
        Err(Error::format(job.storage.url_of(&job.commit(commit.shard)), problem))
    }

    /// The shard before is not known.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// SHA-256 of ids, titles and texts, each with its length in front.
pub(crate) fn digest_of(rows: &[Row]) -> String {
    let mut digest = Sha256::new();
    for row in rows {
        for part in [row.id.as_str(), row.document.title(), row.document.text()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    hex(digest.finalize())
}

impl Commit {
    /// Reads the marker of a shard, if there is one.
    pub(crate) fn read(job: &Job, shard: usize) -> Result<Option<Self>> {
        let name = job.commit(shard);
        let Some(json) = job.storage.get(&name)? else { return Ok(None) };
        let place = job.storage.url_of(&name);
        let commit: Self = serde_json::from_slice(&json).map_err(|e| Error::format(&place, &e).with_source(e))?;
        let problem = if commit.plan != job.id {
            "the marker is of another plan"
        } else if commit.shard != shard {
            "the marker is of another shard"
        } else {
            return Ok(Some(commit));
        };
        Err(Error::format(place, problem))
    }

    /// Writes the marker unless there is one. Returns whether it is this one.
    pub(crate) fn create(&self, job: &Job) -> Result<bool> {
        let json = serde_json::to_vec(self);
        let json = json.map_err(|e| Error::new(ErrorKind::Format, "a marker cannot be written").with_source(e))?;
        job.storage.create(&job.commit(self.shard), json)
    }

    /// Reads the vectors, and checks that they are those that were committed, by the plan's tower.
    pub(crate) fn table(&self, job: &Job) -> Result<Table> {
        let name = job.vectors(self.shard, &self.attempt);
        let place = job.storage.url_of(&name);
        let content = job.storage.get(&name)?.ok_or_else(|| Error::format(&place, "the file of vectors is missing"))?;
        if content.len() as u64 != self.bytes {
            let problem = format!("the file has {} bytes, not {}", content.len(), self.bytes);
            return Err(Error::format(place, problem));
        }
        if sha256_hex(&content) != self.sha256 {
            return Err(Error::format(place, "the content differs from what was committed"));
        }
        let table = Table::open(&place, content)?;
        let origin = table.origin()?;
        if origin.tower != job.plan.tower {
            let problem = format!("vectors of the document tower {}", origin.tower.fingerprint);
            let expected = format!("{problem}, not of {}, or of another instruction", job.plan.tower.fingerprint);
            return Err(Error::format(place, expected));
        }
        let texts = Some(self.texts.clone());
        let expected = Origin { plan: job.id.clone(), tower: origin.tower.clone(), shard: Some(self.shard), texts };
        if origin != expected || table.rows() != self.rows {
            return Err(Error::format(place, "the file is of another shard, or of other texts"));
        }
        Ok(table)
    }
}
