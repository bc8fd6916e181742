//! Rows of training data.

use serde::{Deserialize, Serialize};

/// A query with its positives and hard negatives.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TrainingExample {
    /// The query; in stage 1 any text.
    pub query: String,
    /// Texts that answer the query, at least one; in stage 1 usually the query itself.
    pub positives: Vec<String>,
    /// Texts that only seem to answer it; may be empty if in-batch negatives suffice.
    pub negatives: Vec<String>,
    /// A teacher's score of each positive; empty if there are no scores.
    pub positive_scores: Vec<f32>,
    /// A teacher's score of each negative; empty if there are no scores.
    pub negative_scores: Vec<f32>,
    /// Task prompt of the query, inserted into a stage's `prompt_template`.
    pub prompt: Option<String>,
    /// How the texts of the row are related.
    pub row_type: RowType,
}

impl TrainingExample {
    /// These settings after a change.
    ///
    /// ```
    /// use care_train::TrainingExample;
    ///
    /// let row = TrainingExample::new("q", vec!["p".into()], vec![]).with(|row| row.prompt = Some("find".into()));
    /// assert_eq!(row.prompt.as_deref(), Some("find"));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A [`RowType::Normal`] row without scores.
    pub fn new(query: impl Into<String>, positives: Vec<String>, negatives: Vec<String>) -> Self {
        Self { query: query.into(), positives, negatives, ..Self::default() }
    }
}

/// How the texts of a row are related: `type` in FlagEmbedding's rows. A batch holds rows of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowType {
    /// A question and its answers. Any other `type` is read as this one.
    #[default]
    Normal,
    /// Like `Normal`, but with at most one hard negative per query, whatever the stage's `group_size`.
    #[serde(rename = "only_1neg")]
    OnlyOneNegative,
    /// Two texts with the same meaning. Both are encoded with the instruction of the tower that reads the queries.
    SymmetricSts,
    /// Two texts of one cluster. Both are encoded with the instruction of the tower that reads the queries, and
    /// documents of other rows are not used as negatives, since they may be of the same cluster.
    SymmetricClustering,
    /// A text and the name of its class. Documents of other rows are not used as negatives, and the row with the fewest
    /// negatives limits the group size.
    SymmetricClass,
}

impl RowType {
    /// The type of this name; any other name is `Normal`.
    pub(crate) fn of(name: Option<&str>) -> Self {
        match name {
            Some("only_1neg") => RowType::OnlyOneNegative,
            Some("symmetric_sts") => RowType::SymmetricSts,
            Some("symmetric_clustering") => RowType::SymmetricClustering,
            Some("symmetric_class") => RowType::SymmetricClass,
            _ => RowType::Normal,
        }
    }

    /// Whether documents are encoded with the queries' instruction.
    pub(crate) fn instructs_documents(self) -> bool {
        matches!(self, RowType::SymmetricSts | RowType::SymmetricClustering)
    }

    /// Whether documents of other rows are used as negatives.
    pub(crate) fn has_in_batch_negatives(self) -> bool {
        !matches!(self, RowType::SymmetricClustering | RowType::SymmetricClass)
    }
}
