//! The stages: what is trained, what is frozen.

use care_core::Role;
use serde::{Deserialize, Serialize};

/// What a stage trains and against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Stage 1 of CARE: the document tower is frozen and teaches the query tower on unlabelled
    /// text, the same texts through both towers.
    QueryAlignment,
    /// Stage 2 of CARE: both towers learn from queries, positives and hard negatives.
    JointFinetuning,
    /// The document tower alone encodes queries and documents, as a document tower does: it prepares one that
    /// has no pretraining.
    SymmetricDocument,
    /// One network, the document tower's, encodes both, each role with its own instruction, and is both
    /// towers afterwards: the symmetric baseline.
    Symmetric,
}

impl StageKind {
    /// The name in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::QueryAlignment => "query-alignment",
            StageKind::JointFinetuning => "joint-finetuning",
            StageKind::SymmetricDocument => "symmetric-document",
            StageKind::Symmetric => "symmetric",
        }
    }

    /// Whether the tower of a role can learn by itself. In symmetric stages there is one network, the document
    /// tower's.
    pub(crate) fn trains(self, role: Role) -> bool {
        match (self, role) {
            (StageKind::JointFinetuning, _) => true,
            (StageKind::QueryAlignment, role) => role == Role::Query,
            (StageKind::SymmetricDocument | StageKind::Symmetric, role) => role == Role::Document,
        }
    }
}
