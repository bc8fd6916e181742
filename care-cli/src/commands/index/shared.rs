//! What building and searching an index have in common: the tower and the codes.

use anyhow::{Result, bail};
use care_core::index::{Codes, DocumentTower};
use care_core::{Document, Embedder, Role};
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

/// The document tower of a model, with its instruction as it applies to a document of placeholders.
pub(super) fn document_tower(model: &dyn Embedder) -> Result<DocumentTower> {
    let Some(fingerprint) = model.fingerprint(Role::Document)? else {
        bail!("the model has no fingerprint for document vectors, so they cannot be indexed");
    };
    let instruction = model.document_key(&Document::with_title("{title}", "{text}"));
    Ok(DocumentTower::new(fingerprint).with_instruction(instruction))
}
