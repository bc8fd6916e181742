//! Scorers: where the scores of texts come from, and their rules.

use std::path::{Path, PathBuf};

use care_core::lines::Lines;
use care_core::{Error, Result};

use super::limits::Limits;
use super::row::{Row, Scores};

/// What scored the texts, and when its score of a negative is too high.
///
/// The scores are in the rows, in the lists `pos_NAME` and `neg_NAME`; or in a file of their own, one row for each row, in
/// the lists `pos_scores` and `neg_scores`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scorer {
    /// Its name, in reasons and reports.
    pub name: String,
    /// A file of rows with its scores, in the order of the rows. Default: none, the scores are in the rows.
    pub file: Option<PathBuf>,
    /// Its rules.
    pub limits: Limits,
}

impl Scorer {
    /// A scorer whose scores are in the rows' lists `pos_NAME` and `neg_NAME`.
    pub fn new(name: impl Into<String>, limits: Limits) -> Self {
        Self { name: name.into(), file: None, limits }
    }

    /// Sets [`Scorer::file`].
    #[must_use]
    pub fn with_file(self, file: impl Into<PathBuf>) -> Self {
        Self { file: Some(file.into()), ..self }
    }
}

/// The scores of one scorer, row after row.
pub(super) struct ScoreReader {
    name: String,
    lines: Option<(PathBuf, Lines)>,
    line: String,
}

/// Why a row has no scores.
pub(super) enum NoScores {
    /// The row, or its line in the scorer's file, is bad.
    Bad(String),
    /// The files do not belong together.
    Mismatch(Error),
}

impl ScoreReader {
    pub(super) fn open(scorer: &Scorer) -> Result<Self> {
        let lines = match &scorer.file {
            Some(path) => Some((path.clone(), Lines::open(path)?)),
            None => None,
        };
        Ok(Self { name: scorer.name.clone(), lines, line: String::new() })
    }

    /// The scores of the next row, which is `None` if its line is bad.
    pub(super) fn next(&mut self, row: Option<&Row>) -> std::result::Result<Option<Scores>, NoScores> {
        let Some((path, lines)) = &mut self.lines else {
            let of = |row: &Row| row.scores(&format!("pos_{}", self.name), &format!("neg_{}", self.name));
            return row.map(of).transpose().map_err(NoScores::Bad);
        };
        let number = match next_line(lines, &mut self.line) {
            Err(error) if error.line_number().is_some() => return Err(NoScores::Bad(error.to_string())),
            number => number.map_err(NoScores::Mismatch)?,
        };
        let Some(number) = number else {
            let problem = format!("`{}` has fewer lines than there are rows", self.name);
            return Err(NoScores::Mismatch(Error::format(path.as_path(), problem)));
        };
        let Some(row) = row else { return Ok(None) };
        let place = |problem: String| format!("{}:{number}: {problem}", name_of(path));
        let scored = Row::parse(&self.line).map_err(|problem| NoScores::Bad(place(problem)))?;
        if scored.query() != row.query() {
            let problem = "the query is not that of the row at the same place";
            return Err(NoScores::Mismatch(Error::line(path.as_path(), number, problem)));
        }
        let counts = |row: &Row| (row.positives().len(), row.negatives().len());
        if counts(&scored) != counts(row) {
            let (positives, negatives) = counts(row);
            let problem = format!(
                "{} positives and {} negatives, but the row has {positives} and {negatives}",
                scored.positives().len(),
                scored.negatives().len()
            );
            return Err(NoScores::Bad(place(problem)));
        }
        let scores = scored.scores("pos_scores", "neg_scores");
        scores.map(Some).map_err(|problem| NoScores::Bad(place(problem)))
    }

    /// # Errors
    /// If there are lines left.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((path, lines)) = &mut self.lines else { return Ok(()) };
        match next_line(lines, &mut self.line)? {
            None => Ok(()),
            Some(number) => {
                Err(Error::line(path.as_path(), number, format!("`{}` has more lines than there are rows", self.name)))
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads the next line that is not blank into `line` and returns its number; `None` at the end.
pub(super) fn next_line(lines: &mut Lines, line: &mut String) -> Result<Option<usize>> {
    while let Some((number, text)) = lines.next_line()? {
        if !text.trim().is_empty() {
            line.clear();
            line.push_str(text);
            return Ok(Some(number));
        }
    }
    Ok(None)
}
