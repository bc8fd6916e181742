//! Bidirectional encoders with post-norm blocks: BERT, DistilBERT, ERNIE, RoBERTa, XLM-RoBERTa, MPNet and GTE.

mod bert;
mod block;
mod buckets;
mod gte;
mod model;
mod weights;

pub use bert::{BertConfig, BertFamily};
pub use gte::GteConfig;
pub use model::PostNorm;
pub(crate) use model::PostNormConfig;
pub(crate) use weights::{BERT, DISTILBERT, GTE, MPNET, ROBERTA};
