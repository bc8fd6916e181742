//! What workers write of themselves and of shards that they cannot encode.

use serde::{Deserialize, Serialize};

/// What a worker says of itself: it is written when it claims a shard, and about ten times per lease, as long as it makes
/// progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkerState {
    /// Its name, a random one.
    pub worker: String,
    /// How often it has written this.
    pub beat: u64,
    /// Attempts at shards that it has begun.
    pub attempts: u64,
    /// The attempt that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Seconds since it was started.
    pub seconds: f64,
    /// Seconds of those in which it encoded what it has committed, with reading and writing.
    pub busy_seconds: f64,
    /// Shards that it has committed.
    pub shards: u64,
    /// Rows of those.
    pub rows: u64,
    /// Bytes of input that those stand for.
    pub bytes: f64,
    /// Attempts that were in vain, since another worker was faster.
    pub lost: u64,
    /// Shards that it could not encode.
    pub failed: u64,
    /// Whether it has ended by itself.
    pub ended: bool,
}

impl WorkerState {
    /// A worker that has done nothing.
    pub(crate) fn new(worker: String) -> Self {
        Self { worker, ..Self::default() }
    }
}

/// Why a shard cannot be encoded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    /// The message, with the row.
    pub(crate) error: String,
}
