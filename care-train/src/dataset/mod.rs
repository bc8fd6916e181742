//! Training data: rows of text, checked before the first step.

mod answers;
mod jsonl;
mod source;

pub(crate) use answers::{AnswerKeys, text_key};
pub use jsonl::{read_source, read_sources};
pub(crate) use source::RowNeeds;
pub use source::Source;
