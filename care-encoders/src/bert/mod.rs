//! BERT: bidirectional, post-norm, learned positions.

mod config;
mod model;
mod weights;

pub use config::BertConfig;
pub use model::Bert;
pub(crate) use weights::WEIGHTS;
