//! One row of training data, and the rows that belong together.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// A query with the texts that answer it and the texts that only seem to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingExample {
    /// The query; in stage 1 any text.
    pub query: String,
    /// Texts that answer it, at least one; in stage 1 usually the query itself.
    pub positives: Vec<String>,
    /// Hard negatives; may be empty where negatives come from the batch alone.
    pub negatives: Vec<String>,
    /// A teacher's score of each positive; empty where there is none.
    pub positive_scores: Vec<f32>,
    /// A teacher's score of each negative; empty where there is none.
    pub negative_scores: Vec<f32>,
    /// What the query asks for, to be put into a stage's `prompt_template`.
    pub prompt: Option<String>,
    /// How the row's texts relate.
    pub row_type: RowType,
}

impl TrainingExample {
    /// A row of the usual type, without scores.
    pub fn new(query: impl Into<String>, positives: Vec<String>, negatives: Vec<String>) -> Self {
        Self { query: query.into(), positives, negatives, ..Self::default() }
    }
}

/// How a row's texts relate: `type` of FlagEmbedding's rows. A batch holds rows of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowType {
    /// A question and its answers. Also what any other `type` stands for.
    #[default]
    Normal,
    /// The same with one hard negative a query at most, whatever the stage's `group_size`.
    #[serde(rename = "only_1neg")]
    OnlyOneNegative,
    /// Two texts that mean the same: both are read with the query's instruction.
    SymmetricSts,
    /// Two texts of one cluster: both are read with the query's instruction, and documents of other rows are no
    /// negatives, since they may be of the same cluster.
    SymmetricClustering,
    /// A text and the name of its class: documents of other rows are no negatives, and a group is no larger than
    /// the smallest number of negatives allows.
    SymmetricClass,
}

impl RowType {
    /// The type of this name; other names are normal rows.
    pub(crate) fn of(name: Option<&str>) -> Self {
        match name {
            Some("only_1neg") => RowType::OnlyOneNegative,
            Some("symmetric_sts") => RowType::SymmetricSts,
            Some("symmetric_clustering") => RowType::SymmetricClustering,
            Some("symmetric_class") => RowType::SymmetricClass,
            _ => RowType::Normal,
        }
    }

    /// Whether documents are read with the query's instruction.
    pub(crate) fn instructs_documents(self) -> bool {
        matches!(self, RowType::SymmetricSts | RowType::SymmetricClustering)
    }

    /// Whether documents of other rows are negatives.
    pub(crate) fn has_in_batch_negatives(self) -> bool {
        !matches!(self, RowType::SymmetricClustering | RowType::SymmetricClass)
    }
}

/// Rows from one origin. A batch never mixes sources, so that a query's in-batch negatives are of
/// its own kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    name: String,
    examples: Vec<TrainingExample>,
    /// Line of each example, where the source is a file.
    lines: Option<Vec<usize>>,
}

/// What a stage needs of every row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowNeeds {
    pub(crate) group_size: usize,
    pub(crate) teacher_scores: bool,
}

impl Source {
    /// Rows made in memory.
    ///
    /// # Errors
    /// When there is no row, or one without a positive, with an empty text, or with scores that do not fit; the
    /// message names its index.
    pub fn new(name: impl Into<String>, examples: Vec<TrainingExample>) -> Result<Self> {
        Self { name: name.into(), examples, lines: None }.checked()
    }

    /// Rows of a file with their line numbers.
    ///
    /// # Errors
    /// As [`Source::new`]; the message names the line.
    pub(crate) fn of_file(name: String, rows: Vec<(usize, TrainingExample)>) -> Result<Self> {
        let (lines, examples) = rows.into_iter().unzip();
        Self { name, examples, lines: Some(lines) }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.examples.is_empty() {
            return Err(Error::new(ErrorKind::Format, format!("{}: no training row", self.name)));
        }
        self.check(|example| {
            let blank = |texts: &[String]| texts.iter().position(|text| text.trim().is_empty());
            if example.query.trim().is_empty() {
                return Some("`query` is empty".into());
            }
            if example.positives.is_empty() {
                return Some("`pos` is empty".into());
            }
            for (field, texts, scores) in [
                ("pos", &example.positives, &example.positive_scores),
                ("neg", &example.negatives, &example.negative_scores),
            ] {
                if let Some(index) = blank(texts) {
                    return Some(format!("`{field}[{index}]` is an empty text"));
                }
                if !scores.is_empty() && scores.len() != texts.len() {
                    return Some(format!("`{field}_scores` has {} scores for {} texts", scores.len(), texts.len()));
                }
                if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
                    return Some(format!("`{field}_scores[{index}]` is not finite"));
                }
            }
            None
        })?;
        Ok(self)
    }

    /// Refuses rows that lack what a stage needs.
    ///
    /// # Errors
    /// When a row lacks a hard negative or a score; the message names its line.
    pub(crate) fn require(&self, needs: RowNeeds) -> Result<()> {
        let group = needs.group_size;
        self.check(|example| {
            if group > 1 && example.negatives.is_empty() {
                let needed = format!("`neg` is empty, but a group of {group} needs hard negatives");
                return Some(format!("{needed}; set `group_size = 1` to use in-batch negatives only"));
            }
            if group < 2 && !example.row_type.has_in_batch_negatives() {
                return Some("rows of this `type` have no in-batch negatives: set `group_size` above 1".into());
            }
            let scored = |texts: &[String], scores: &[f32]| texts.len() == scores.len();
            if needs.teacher_scores && !scored(&example.positives, &example.positive_scores) {
                return Some("`pos_scores` is missing, but the distillation loss needs it".into());
            }
            if needs.teacher_scores && !scored(&example.negatives, &example.negative_scores) {
                return Some("`neg_scores` is missing, but the distillation loss needs it".into());
            }
            None
        })
    }

    fn check(&self, problem: impl Fn(&TrainingExample) -> Option<String>) -> Result<()> {
        for (index, example) in self.examples.iter().enumerate() {
            if let Some(problem) = problem(example) {
                let place = match &self.lines {
                    Some(lines) => format!("{}:{}", self.name, lines[index]),
                    None => format!("{}, row {index}", self.name),
                };
                return Err(Error::new(ErrorKind::Format, format!("{place}: {problem}")));
            }
        }
        Ok(())
    }

    /// The rows.
    pub fn examples(&self) -> &[TrainingExample] {
        &self.examples
    }

    /// Where the rows come from.
    pub fn name(&self) -> &str {
        &self.name
    }
}
