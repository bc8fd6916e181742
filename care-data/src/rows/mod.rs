//! Rows of training data: a query, its positives and hard negatives, in the forms of the field's tools.

mod example;
mod format;
#[cfg(not(feature = "parquet"))]
mod no_parquet;
#[cfg(feature = "parquet")]
mod parquet;
mod parse;
mod read;
mod record;
mod vectors;
mod write;

pub use example::{RowType, TrainingExample};
pub use format::RowFormat;
pub(crate) use parse::{document, texts};
pub use read::{for_each_example, for_each_usable_example};
pub use vectors::VectorTable;
pub use write::RowWriter;
