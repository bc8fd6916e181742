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
    /// Whether the row was a text alone, which is query and positive.
    pub is_plain: bool,
    /// The query's id, where the row has one.
    pub query_id: Option<String>,
    /// The id of each positive; empty if the row has none.
    pub positive_ids: Vec<String>,
    /// The id of each negative; empty if the row has none.
    pub negative_ids: Vec<String>,
}

impl TrainingExample {
    /// These settings after a change.
    ///
    /// ```
    /// use care_data::rows::TrainingExample;
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

    /// Checks what every use of a row needs: a query, at least one positive, no empty text, and as many scores and ids as
    /// texts, the scores finite.
    ///
    /// # Errors
    /// Returns what is wrong with the row, as text that names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.query.trim().is_empty() {
            return Err("`query` is empty".into());
        }
        if self.positives.is_empty() {
            return Err("`pos` is empty".into());
        }
        let positives = ("pos", &self.positives, &self.positive_scores, &self.positive_ids);
        let negatives = ("neg", &self.negatives, &self.negative_scores, &self.negative_ids);
        for (field, texts, scores, ids) in [positives, negatives] {
            if let Some(index) = texts.iter().position(|text| text.trim().is_empty()) {
                return Err(format!("`{field}[{index}]` is an empty text"));
            }
            for (of, values) in [("scores", scores.len()), ("id", ids.len())] {
                if values != 0 && values != texts.len() {
                    return Err(format!("`{field}_{of}` has {values} values, but `{field}` has {}", texts.len()));
                }
            }
            if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
                return Err(format!("`{field}_scores[{index}]` is not finite"));
            }
        }
        Ok(())
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
    /// The type of this name in a row; any other name is `Normal`.
    pub fn of(name: Option<&str>) -> Self {
        match name {
            Some("only_1neg") => RowType::OnlyOneNegative,
            Some("symmetric_sts") => RowType::SymmetricSts,
            Some("symmetric_clustering") => RowType::SymmetricClustering,
            Some("symmetric_class") => RowType::SymmetricClass,
            _ => RowType::Normal,
        }
    }

    /// Its name in a row.
    pub fn as_str(self) -> &'static str {
        match self {
            RowType::Normal => "normal",
            RowType::OnlyOneNegative => "only_1neg",
            RowType::SymmetricSts => "symmetric_sts",
            RowType::SymmetricClustering => "symmetric_clustering",
            RowType::SymmetricClass => "symmetric_class",
        }
    }

    /// Whether documents are encoded with the queries' instruction.
    pub fn instructs_documents(self) -> bool {
        matches!(self, RowType::SymmetricSts | RowType::SymmetricClustering)
    }

    /// Whether documents of other rows are used as negatives.
    pub fn has_in_batch_negatives(self) -> bool {
        !matches!(self, RowType::SymmetricClustering | RowType::SymmetricClass)
    }
}
