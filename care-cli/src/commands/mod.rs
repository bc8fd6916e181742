//! One file per command.

pub(crate) mod audit;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod demo_data;
pub(crate) mod embed;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod index;
pub(crate) mod info;
pub(crate) mod label;
mod manifest;
pub(crate) mod metrics;
pub(crate) mod prune_vocab;
pub(crate) mod report;
pub(crate) mod rerank;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod train;
