//! The kinds of stages: what each one trains and freezes.

use care_core::Role;
use serde::{Deserialize, Serialize};

/// Which towers a stage trains, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageKind {
    /// Stage 1 of CARE: the query tower is trained to match the frozen document tower on unlabelled text. Both towers
    /// encode the same texts.
    QueryAlignment,
    /// Stage 2 of CARE: both towers are trained on queries, positives and hard negatives.
    JointFinetuning,
    /// The document tower alone is trained. It encodes queries as well as documents, with its own instruction. Prepares
    /// a document tower that has no pretraining.
    SymmetricDocument,
    /// The symmetric baseline: one network, that of the document tower, encodes both roles, each with its own
    /// instruction, and afterwards serves as both towers.
    Symmetric,
}

impl StageKind {
    /// The name used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::QueryAlignment => "query-alignment",
            StageKind::JointFinetuning => "joint-finetuning",
            StageKind::SymmetricDocument => "symmetric-document",
            StageKind::Symmetric => "symmetric",
        }
    }

    /// Whether the stage trains the tower of a role separately. Symmetric stages have one network, that of the document
    /// tower.
    pub(crate) fn trains(self, role: Role) -> bool {
        match (self, role) {
            (StageKind::JointFinetuning, _) => true,
            (StageKind::QueryAlignment, role) => role == Role::Query,
            (StageKind::SymmetricDocument | StageKind::Symmetric, role) => role == Role::Document,
        }
    }
}
