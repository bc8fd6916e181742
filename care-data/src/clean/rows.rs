//! Reads rows one by one, with what their scorers say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use care_core::lines::Lines;
use care_core::{Error, Result};

use super::limits::Limits;
use super::options::CleanOptions;
use super::row::{Row, Scores};
use super::score::{NoScores, ScoreReader, next_line};
use super::verdict::{Finding, IS_POSITIVE, IS_QUERY, Verdict};
use crate::normalise::normalise;
use crate::table::is_jsonl;

/// A row with what its scorers say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspected<'a> {
    /// Number of its line, from 1.
    pub number: usize,
    /// Its line.
    pub line: &'a str,
    /// The row.
    pub row: &'a Row,
    /// Its scores, by scorer.
    pub scores: &'a [Scores],
    /// The verdict about each negative.
    pub findings: Vec<Finding>,
}

/// Calls `each` with every row of a JSONL file (`.gz` too) and the verdicts of the scorers about its negatives. One row is
/// in memory at a time.
///
/// - A negative whose normalised text is a positive of the row, or the query, is a false negative without any score.
/// - A negative is a false negative if enough scorers suspect it, unknown if that hangs on missing scores, else clean.
///   Without scorers, it is unknown.
///
/// Instead of a row that cannot be read, `each` gets an error that names file and line, which it returns to stop.
///
/// # Errors
/// If a file cannot be read, an option is out of its range, a file of scores does not belong to the rows, or `each` fails.
pub fn for_each_inspected(
    path: impl AsRef<Path>,
    options: &CleanOptions,
    each: &mut dyn FnMut(Result<Inspected<'_>>) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    if !is_jsonl(path) {
        return Err(Error::format(path, "rows are cleaned in JSON Lines; convert the file with `care data convert`"));
    }
    options.check()?;
    let mut reader = Reader::open(path, options)?;
    while reader.step(each)? {}
    reader.scorers.iter_mut().try_for_each(ScoreReader::finish)
}

/// Calls `each` with every row of a JSONL file (`.gz` too), and `bad` with the error of one that cannot be read, which it
/// returns to stop. One row is in memory at a time.
///
/// # Errors
/// If the file cannot be read, or `each` or `bad` fails.
pub fn for_each_written_row(
    path: impl AsRef<Path>,
    each: &mut dyn FnMut(Row) -> Result<()>,
    bad: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let (mut lines, mut line) = (Lines::open(path)?, String::new());
    while let Some((_, row)) = next_row(path, &mut lines, &mut line)? {
        row.map_or_else(&mut *bad, &mut *each)?;
    }
    Ok(())
}

/// The next row, or its error, with the number of its line; `None` at the end.
fn next_row(path: &Path, lines: &mut Lines, line: &mut String) -> Result<Option<(usize, Result<Row>)>> {
    match next_line(lines, line) {
        Ok(None) => Ok(None),
        Ok(Some(number)) => Ok(Some((number, Row::parse(line).map_err(|problem| Error::line(path, number, problem))))),
        // A line that is no UTF-8 text; the next one may be.
        Err(error) => match error.line_number() {
            Some(number) => Ok(Some((number, Err(error)))),
            None => Err(error),
        },
    }
}

struct Reader<'a> {
    path: PathBuf,
    lines: Lines,
    line: String,
    options: &'a CleanOptions,
    scorers: Vec<ScoreReader>,
    reasons: Vec<Reasons>,
}

/// The names of a scorer's reasons, made once.
struct Reasons {
    rules: [Arc<str>; 3],
    missing: Arc<str>,
}

impl<'a> Reader<'a> {
    fn open(path: &Path, options: &'a CleanOptions) -> Result<Self> {
        let reasons = |name: &str| Reasons {
            rules: Limits::RULES.map(|rule| format!("{name}: {rule}").into()),
            missing: format!("{name}: no score").into(),
        };
        Ok(Self {
            path: path.to_owned(),
            lines: Lines::open(path)?,
            line: String::new(),
            options,
            scorers: options.scorers.iter().map(ScoreReader::open).collect::<Result<_>>()?,
            reasons: options.scorers.iter().map(|scorer| reasons(&scorer.name)).collect(),
        })
    }

    /// Reads a line; false at the end.
    fn step(&mut self, each: &mut dyn FnMut(Result<Inspected<'_>>) -> Result<()>) -> Result<bool> {
        let Some((number, parsed)) = next_row(&self.path, &mut self.lines, &mut self.line)? else { return Ok(false) };
        let (row, mut problem) = match parsed {
            Ok(row) => (Some(row), None),
            Err(error) => (None, Some(error)),
        };
        let mut scores = Vec::new();
        for scorer in &mut self.scorers {
            // Every file of scores goes on by a line, even if the row is bad.
            match scorer.next(row.as_ref()) {
                Ok(found) => scores.extend(found),
                Err(NoScores::Mismatch(error)) => return Err(error),
                Err(NoScores::Bad(bad)) => problem = problem.or_else(|| Some(Error::line(&self.path, number, bad))),
            }
        }
        match (row, problem) {
            (Some(row), None) => {
                let findings = self.findings(&row, &scores);
                each(Ok(Inspected { number, line: &self.line, row: &row, scores: &scores, findings }))?;
            }
            (_, problem) => problem.map_or(Ok(()), |problem| each(Err(problem)))?,
        }
        Ok(true)
    }

    fn findings(&self, row: &Row, scores: &[Scores]) -> Vec<Finding> {
        let positives: Vec<String> = row.positives().iter().map(|item| normalise(item.text())).collect();
        let query = normalise(row.query());
        let limits = || self.options.scorers.iter().map(|scorer| &scorer.limits);
        let bounds: Vec<_> = limits().zip(scores).map(|(limits, scores)| limits.bounds(&scores.positives)).collect();
        let of_negative = |(at, text): (usize, String)| {
            if positives.contains(&text) {
                return Finding::of(Verdict::FalseNegative, IS_POSITIVE);
            }
            if text == query {
                return Finding::of(Verdict::FalseNegative, IS_QUERY);
            }
            let by_scorer: Vec<_> = (limits().zip(scores).zip(&bounds))
                .map(|((limits, scores), bounds)| limits.verdict(scores.negatives[at], bounds))
                .collect();
            self.joined(&by_scorer)
        };
        row.negatives().iter().map(|item| normalise(item.text())).enumerate().map(of_negative).collect()
    }

    /// The finding of all scorers together. A clean one has no reasons, though a scorer may suspect it.
    fn joined(&self, by_scorer: &[(Verdict, [bool; 3])]) -> Finding {
        let verdicts: Vec<Verdict> = by_scorer.iter().map(|(verdict, _)| *verdict).collect();
        let verdict = self.options.agreement.of(&verdicts);
        if verdict == Verdict::Clean {
            return Finding::clean();
        }
        let mut reasons = Vec::new();
        for ((of_scorer, fired), names) in by_scorer.iter().zip(&self.reasons) {
            reasons.extend(names.rules.iter().zip(fired).filter(|(_, fired)| **fired).map(|(name, _)| name.clone()));
            reasons.extend((*of_scorer == Verdict::Unknown).then(|| names.missing.clone()));
        }
        if reasons.is_empty() {
            reasons.push("no scorer".into());
        }
        Finding { verdict, reasons }
    }
}
