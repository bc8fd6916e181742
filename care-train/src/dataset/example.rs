//! One row of training data, and the rows that belong together.

use care_core::{Error, ErrorKind, Result};

/// A query with the texts that answer it and the texts that only seem to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingExample {
    /// The query; in stage 1 any text.
    pub query: String,
    /// Texts that answer it, at least one; in stage 1 usually the query itself.
    pub positives: Vec<String>,
    /// Hard negatives; may be empty where negatives come from the batch alone.
    pub negatives: Vec<String>,
}

/// Rows from one origin. A batch never mixes sources, so that a query's in-batch negatives are of
/// its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    examples: Vec<TrainingExample>,
    /// Line of each example, where the source is a file.
    lines: Option<Vec<usize>>,
}

impl Source {
    /// Rows made in memory.
    ///
    /// # Errors
    /// When there is no row, or one without a positive; the message names its index.
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
        match self.examples.iter().position(|example| example.positives.is_empty()) {
            Some(index) => Err(self.error(index, "`pos` is empty")),
            None => Ok(self),
        }
    }

    /// Refuses rows that lack the hard negatives a group needs.
    ///
    /// # Errors
    /// When `group_size` is above 1 and a row has no negative.
    pub(crate) fn require_negatives(&self, group_size: usize) -> Result<()> {
        if group_size < 2 {
            return Ok(());
        }
        match self.examples.iter().position(|example| example.negatives.is_empty()) {
            Some(index) => {
                let needed = format!("`neg` is empty, but a group of {group_size} needs hard negatives");
                Err(self.error(index, &format!("{needed}; set `group_size = 1` to use in-batch negatives only")))
            }
            None => Ok(()),
        }
    }

    fn error(&self, index: usize, problem: &str) -> Error {
        let place = match &self.lines {
            Some(lines) => format!("{}:{}", self.name, lines[index]),
            None => format!("{}, row {index}", self.name),
        };
        Error::new(ErrorKind::Format, format!("{place}: {problem}"))
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
