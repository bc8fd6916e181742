//! What building and searching an index have in common: the tower and the codes.

use anyhow::{Context, Result};
use care_core::Embedder;
use care_core::index::{Codes, DocumentTower};
use clap::ValueEnum;

/// Codes by name.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum CodesArg {
    Int8,
    Binary,
    #[value(name = "", hide = true)]
    None,
}

impl CodesArg {
    pub(super) fn codes(self) -> Option<Codes> {
        match self {
            Self::Int8 => Some(Codes::Int8),
            Self::Binary => Some(Codes::Binary),
            Self::None => None,
        }
    }
}

/// The document tower of a model.
pub(super) fn document_tower(model: &dyn Embedder) -> Result<DocumentTower> {
    care_core::embedder::document_tower(model)?
        .context("the model has no fingerprint for document vectors, so they cannot be indexed")
}
