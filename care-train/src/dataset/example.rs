//! Rows of training data, and the sources they form.

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{AnswerKeys, text_key};

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

/// Rows from one origin. A batch never mixes sources, so that a query's in-batch negatives are of its own kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    name: String,
    examples: Vec<TrainingExample>,
    /// Line number of each example, if the source is a file.
    lines: Option<Vec<usize>>,
    /// The known answers of each row's query.
    answers: AnswerKeys,
    /// What is odd about the rows, though they can be used.
    warnings: Vec<String>,
}

/// What a stage requires of every row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowNeeds {
    pub(crate) group_size: usize,
    pub(crate) teacher_scores: bool,
}

impl Source {
    /// A source of rows in memory.
    ///
    /// # Errors
    /// Returns an error if there are no rows, or if one has no positive, an empty text, or scores that do not match
    /// its texts; the message names the row's index.
    pub fn new(name: impl Into<String>, examples: Vec<TrainingExample>) -> Result<Self> {
        Self::of(name.into(), examples, None).checked()
    }

    /// A source of a file's rows with their line numbers.
    ///
    /// # Errors
    /// As [`Source::new`], except that the message names the line.
    pub(crate) fn of_file(name: String, rows: Vec<(usize, TrainingExample)>) -> Result<Self> {
        let (lines, examples) = rows.into_iter().unzip();
        Self::of(name, examples, Some(lines)).checked()
    }

    fn of(name: String, examples: Vec<TrainingExample>, lines: Option<Vec<usize>>) -> Self {
        let mut answers = AnswerKeys::default();
        examples.iter().for_each(|example| answers.push(&example.query, &example.positives));
        answers.join();
        Self { name, examples, lines, answers, warnings: Vec::new() }
    }

    fn checked(mut self) -> Result<Self> {
        if self.examples.is_empty() {
            return Err(Error::new(ErrorKind::Format, format!("{}: no training rows", self.name)));
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
                    return Some(format!(
                        "`{field}_scores` has {} values, but `{field}` has {}",
                        scores.len(),
                        texts.len()
                    ));
                }
                if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
                    return Some(format!("`{field}_scores[{index}]` is not finite"));
                }
            }
            None
        })?;
        self.warn_of_answers_among_negatives();
        Ok(self)
    }

    /// Such negatives are masked, so that groups keep their size.
    fn warn_of_answers_among_negatives(&mut self) {
        let own = |row: usize| {
            let (positives, negatives) = (self.answers.positives(row), &self.examples[row].negatives);
            negatives.iter().position(|negative| positives.contains(&text_key(negative)))
        };
        let mut found = (0..self.examples.len()).filter_map(|row| own(row).map(|negative| (row, negative)));
        let Some((row, negative)) = found.next() else { return };
        let (place, others) = (self.place(row), found.count());
        let more = match others {
            0 => String::new(),
            1 => ", nor such texts of 1 other row".into(),
            _ => format!(", nor such texts of {others} other rows"),
        };
        self.warnings.push(format!("{place}: `neg[{negative}]` is in `pos` too; it is not used as a negative{more}"));
    }

    fn place(&self, row: usize) -> String {
        match &self.lines {
            Some(lines) => format!("{}:{}", self.name, lines[row]),
            None => format!("{}, row {row}", self.name),
        }
    }

    /// Checks that every row meets the requirements of a stage.
    ///
    /// # Errors
    /// Returns an error if a row lacks hard negatives or scores; the message names its line.
    pub(crate) fn require(&self, needs: RowNeeds) -> Result<()> {
        let group = needs.group_size;
        self.check(|example| {
            if group > 1 && example.negatives.is_empty() {
                let needed = format!("`neg` is empty, but a group of {group} needs hard negatives");
                return Some(format!("{needed}; set `group_size = 1` to use in-batch negatives only"));
            }
            if group < 2 && !example.row_type.has_in_batch_negatives() {
                return Some("rows of this `type` have no in-batch negatives; set `group_size` to at least 2".into());
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
                return Err(Error::new(ErrorKind::Format, format!("{}: {problem}", self.place(index))));
            }
        }
        Ok(())
    }

    /// The rows.
    pub fn examples(&self) -> &[TrainingExample] {
        &self.examples
    }

    /// The known answers of each row's query.
    pub(crate) fn answers(&self) -> &AnswerKeys {
        &self.answers
    }

    /// What is odd about the rows, though they can be used; each names file and line.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The name of the source; for a file, its path.
    pub fn name(&self) -> &str {
        &self.name
    }
}
