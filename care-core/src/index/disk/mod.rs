//! An exact index in a folder: vectors with ids, texts and metadata; added, replaced and removed so that a crash loses
//! nothing that was acknowledged.
//!
//! Rows are in *segments*: folders of immutable files, each with checksums. The manifest, `index.json`, names them. A change
//! writes new files beside the old ones, syncs them, and takes effect when the manifest is replaced. So a reader needs no
//! lock and sees the index of one moment; a process that is killed leaves files that no manifest names, which the next
//! writer removes.

mod approximate;
#[cfg(feature = "approximate")]
mod approximate_search;
mod checked_file;
mod codes;
mod columns;
mod filter;
#[cfg(feature = "approximate")]
mod graph;
mod manifest;
mod record;
mod row_set;
mod search;
mod segment;
mod segment_writer;
mod snapshot;
mod writer;

pub use approximate::{Approximation, GraphOptions, Loss, LossSample};
pub use codes::Codes;
pub use filter::{Condition, Filter, Scalar};
pub use manifest::DocumentTower;
pub use record::Record;
pub use search::SearchOptions;
pub use snapshot::{DiskIndex, FieldInfo};
pub use writer::{Addition, Changes, DiskIndexOptions, IndexWriter};
