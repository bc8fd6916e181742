//! Training data: rows of text, checked before the first step.

mod example;
mod jsonl;

pub use example::{Source, TrainingExample};
pub use jsonl::read_source;
