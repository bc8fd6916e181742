//! Training data: rows of text, checked before the first step.

mod example;
mod jsonl;

pub(crate) use example::RowNeeds;
pub use example::{RowType, Source, TrainingExample};
pub use jsonl::{read_source, read_sources};
