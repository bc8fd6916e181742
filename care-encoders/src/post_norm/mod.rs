//! Bidirectional encoders with post-norm blocks: BERT, DistilBERT, RoBERTa, XLM-RoBERTa and GTE.

mod bert;
mod block;
mod gte;
mod model;
mod weights;

pub use bert::{BertConfig, BertFamily};
pub use gte::GteConfig;
pub use model::PostNorm;
pub(crate) use model::PostNormConfig;
pub(crate) use weights::{BERT, DISTILBERT, GTE, ROBERTA};
