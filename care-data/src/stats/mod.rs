//! What is in files of training rows: counts, lengths, duplicates.

mod collect;
mod distinct;
mod distribution;
mod table;

pub use collect::{RowStats, TextStats, collect_stats};
pub use distribution::{Distribution, Summary};
