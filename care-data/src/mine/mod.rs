//! Hard negatives: results of a search that are near to a query and do not answer it.
//!
//! [`mine`] asks one or several sources ([`VectorSource`], [`Bm25Source`], [`RunSource`]) for the results of each query and
//! chooses negatives by [`Rules`]. Queries come in groups and their negatives in order, so memory does not grow with the
//! texts: those are in temporary files, and [`Documents`] and [`Queries`] keep some bytes of each.

mod choose;
mod documents;
mod fuse;
mod guard;
mod miner;
#[cfg(not(feature = "plots"))]
#[path = "no_plot.rs"]
mod plot;
#[cfg(feature = "plots")]
mod plot;
mod queries;
mod read;
mod render;
mod report;
mod rules;
mod sketch;
mod source;
mod spool;
mod statistics;

pub use crate::against::Against;
pub use choose::Negative;
pub use documents::Documents;
pub use miner::{Mined, Mix, Plan, mine};
pub use queries::{MiningQuery, Queries};
pub use read::{Bad, Ids, Lacking, read_corpus, read_judged, read_positives, read_rows};
pub use report::{Report, SourceReport};
pub use rules::{RankCount, Ranks, Reason, Rules, Sample, Short};
pub use source::{Answers, Bm25Source, RunSource, Source, VectorSource};
pub use statistics::Distribution;
