#![doc = include_str!("../README.md")]

mod clock;
mod dtype;
mod input;
mod storage;
mod table;

mod claims;
mod commit;
mod estimate;
mod job;
mod merge;
mod plan;
mod state;
mod status;
mod verify;
mod worker;

pub use clock::{Clock, SystemClock};
pub use dtype::Dtype;
pub use estimate::{CountTokens, Estimate, EstimateOptions};
pub use input::{Fields, Input, InputFormat};
pub use job::Job;
pub use merge::Merged;
pub use plan::{Plan, PlanOptions, Shard};
pub use state::WorkerState;
pub use status::{Status, WorkerStatus};
pub use storage::{Storage, Stores};
pub use verify::{Damage, Verification};
pub use worker::{Observer, Progress, Worker, WorkerOptions};

/// The version of object_store whose stores [`Stores::register`] takes.
pub use object_store;
