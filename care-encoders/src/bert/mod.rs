//! BERT, RoBERTa and XLM-RoBERTa: bidirectional, post-norm, learned positions.

mod config;
mod model;
mod weights;

pub use config::{BertConfig, BertFamily};
pub use model::Bert;
pub(crate) use weights::{BERT, ROBERTA};
