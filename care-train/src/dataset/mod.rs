//! Training data: rows of text, checked before the first step.

mod answers;
mod example;
mod jsonl;

pub(crate) use answers::{AnswerKeys, text_key};
pub(crate) use example::RowNeeds;
pub use example::{RowType, Source, TrainingExample};
pub use jsonl::{read_source, read_sources};
