//! The stages: what is trained, what is frozen, which loss.

use serde::{Deserialize, Serialize};

/// What a stage trains and against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Stage 1 of CARE: the document tower is frozen and teaches the query tower on unlabelled
    /// text. InfoNCE + MSE, the same texts through both towers.
    QueryAlignment,
    /// Stage 2 of CARE: both towers learn from queries, positives and hard negatives. InfoNCE.
    JointFinetuning,
    /// The document tower alone encodes queries and documents. InfoNCE. Prepares a document tower
    /// that has no pretraining, and serves as the symmetric baseline.
    SymmetricDocument,
}

impl StageKind {
    /// The name in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::QueryAlignment => "query-alignment",
            StageKind::JointFinetuning => "joint-finetuning",
            StageKind::SymmetricDocument => "symmetric-document",
        }
    }

    /// Whether the query tower learns.
    pub(crate) fn trains_query(self) -> bool {
        self != StageKind::SymmetricDocument
    }

    /// Whether the document tower learns.
    pub(crate) fn trains_document(self) -> bool {
        self != StageKind::QueryAlignment
    }
}
