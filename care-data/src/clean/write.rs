//! Cleans a file of rows.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use care_core::files::AtomicFile;
use care_core::{Error, Result};
use serde::Serialize;

use super::edit::Fate;
use super::options::{CleanOptions, Mode, Unknown};
use super::report::{Dropped, Report};
use super::rows::{Inspected, for_each_inspected};
use super::verdict::{Finding, Verdict};

/// Has the last word about a row: replaces findings of scorers, e.g. by what judges say.
pub type Inspect<'a> = dyn FnMut(&mut Inspected<'_>) -> Result<()> + 'a;

/// Cleans the rows of a JSONL file into another: each negative gets a verdict by [`for_each_inspected`], on which `inspect`
/// has the last word, and [`CleanOptions`] say what is done. Rows without a change are written byte for byte, others with
/// all fields that do not depend on the change. Rows that cannot be read or changed go to `bad`, as there.
///
/// `listed` gets a line for everything that was found: what, why, with which scores, and what was done about it. Both files
/// are written atomically; a process that is killed leaves none of them, and a second run starts afresh.
///
/// # Errors
/// As [`for_each_inspected`]; if a negative is unknown and that is an error by the options; if `inspect` fails, or a file
/// cannot be written.
pub fn clean_rows(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    listed: Option<&Path>,
    options: &CleanOptions,
    inspect: &mut Inspect<'_>,
    bad: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Report> {
    let input = input.as_ref();
    let mut rows = Sink::create(output.as_ref())?;
    let mut list = listed.map(Sink::create).transpose()?;
    let mut report = Report::default();
    for_each_inspected(input, options, &mut |inspected| {
        report.rows += 1;
        let mut inspected = match inspected {
            Ok(inspected) => inspected,
            Err(error) => {
                report.bad += 1;
                return bad(error);
            }
        };
        inspect(&mut inspected)?;
        let cleaned = match clean(&inspected, options, &mut report) {
            Ok(cleaned) => cleaned,
            Err(Problem::Row(problem)) => {
                report.bad += 1;
                return bad(Error::line(input, inspected.number, problem));
            }
            Err(Problem::Unknown(at)) => {
                let reasons = inspected.findings[at].reasons.join(", ");
                let problem = format!("`neg[{at}]` is unknown ({reasons}); set what is done about such negatives");
                return Err(Error::line(input, inspected.number, problem));
            }
        };
        if let Some(line) = cleaned.line {
            rows.line(&line)?;
        }
        let Some(list) = &mut list else { return Ok(()) };
        list_row(list, &inspected, options, &cleaned.fates, cleaned.dropped)
    })?;
    if let Some(list) = list {
        list.commit()?;
    }
    rows.commit()?;
    Ok(report)
}

enum Problem {
    /// This negative is unknown, and that is an error.
    Unknown(usize),
    Row(String),
}

/// What became of a row.
struct Cleaned {
    /// Its new line; `None` if it was dropped.
    line: Option<String>,
    fates: Vec<Fate>,
    dropped: Option<Dropped>,
}

fn clean(
    inspected: &Inspected<'_>,
    options: &CleanOptions,
    report: &mut Report,
) -> std::result::Result<Cleaned, Problem> {
    let Inspected { row, line, findings, .. } = inspected;
    let first_unknown = findings.iter().position(|finding| finding.verdict == Verdict::Unknown);
    if let (Unknown::Error, Some(at)) = (options.unknown, first_unknown) {
        return Err(Problem::Unknown(at));
    }
    let fates: Vec<Fate> = findings.iter().map(|finding| fate(finding, options)).collect();
    let dropped = reason_to_drop(findings, &fates, options);
    let is_changed = fates.iter().any(|fate| *fate != Fate::Stays);
    let line = match (dropped, is_changed) {
        (Some(_), _) => None,
        (None, false) => Some((*line).to_owned()),
        (None, true) => Some(row.edited(&fates).map_err(Problem::Row)?),
    };
    findings.iter().for_each(|finding| report.count(finding));
    match dropped {
        Some(reason) => report.drop_row(reason),
        None => report.write_row(findings, &fates),
    }
    Ok(Cleaned { line, fates, dropped })
}

/// What becomes of a negative, if its row stays.
fn fate(finding: &Finding, options: &CleanOptions) -> Fate {
    match finding.verdict {
        _ if options.mode == Mode::Keep => Fate::Stays,
        Verdict::Clean => Fate::Stays,
        Verdict::FalseNegative if options.mode == Mode::MakePositive && !finding.is_same_text() => {
            Fate::BecomesPositive
        }
        Verdict::FalseNegative => Fate::Leaves,
        Verdict::Unknown if options.unknown == Unknown::Keep => Fate::Stays,
        Verdict::Unknown => Fate::Leaves,
    }
}

fn reason_to_drop(findings: &[Finding], fates: &[Fate], options: &CleanOptions) -> Option<Dropped> {
    if options.mode == Mode::Keep {
        return None;
    }
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let false_negatives = count(Verdict::FalseNegative);
    let left = fates.iter().filter(|fate| **fate == Fate::Stays).count();
    if options.mode == Mode::DropRow && false_negatives > 0 {
        Some(Dropped::FalseNegative)
    } else if options.max_false_negatives.is_some_and(|most| false_negatives > most) {
        Some(Dropped::TooMany)
    } else if options.unknown == Unknown::DropRow && count(Verdict::Unknown) > 0 {
        Some(Dropped::Unknown)
    } else if left < options.min_negatives {
        Some(Dropped::Short)
    } else {
        None
    }
}

/// A file that is written line by line, atomically.
struct Sink {
    path: PathBuf,
    file: BufWriter<AtomicFile>,
}

impl Sink {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: BufWriter::new(AtomicFile::create(path)?) })
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|e| Error::io("write", &self.path, e))
    }

    fn row(&mut self, row: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(row).map_err(|e| Error::io("write", &self.path, e.into()))?;
        self.line(&text)
    }

    fn commit(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|e| Error::io("write", &self.path, e.into_error()))?;
        file.commit().map(drop)
    }
}

/// A line of the list for a negative.
#[derive(Serialize)]
struct ListedNegative<'a> {
    line: usize,
    query: &'a str,
    /// From 0.
    negative: usize,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    verdict: Verdict,
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    scores: BTreeMap<&'a str, f64>,
    action: &'static str,
}

/// A line of the list for a row that was dropped without a finding of its own.
#[derive(Serialize)]
struct ListedRow<'a> {
    line: usize,
    query: &'a str,
    action: &'static str,
    reasons: [&'static str; 1],
}

fn list_row(
    list: &mut Sink,
    inspected: &Inspected<'_>,
    options: &CleanOptions,
    fates: &[Fate],
    dropped: Option<Dropped>,
) -> Result<()> {
    let (line, query) = (inspected.number, inspected.row.query());
    if let Some(reason) = dropped {
        list.row(&ListedRow { line, query, action: "row dropped", reasons: [reason.name()] })?;
    }
    for (at, (finding, fate)) in inspected.findings.iter().zip(fates).enumerate() {
        if finding.verdict == Verdict::Clean {
            continue;
        }
        let action = match (dropped, fate) {
            (Some(_), _) => "row dropped",
            (None, Fate::Stays) => "kept",
            (None, Fate::Leaves) => "dropped",
            (None, Fate::BecomesPositive) => "made positive",
        };
        let item = &inspected.row.negatives()[at];
        let scorers = options.scorers.iter().zip(inspected.scores);
        let scores =
            scorers.filter_map(|(scorer, scores)| Some((scorer.name.as_str(), scores.negatives[at]?))).collect();
        list.row(&ListedNegative {
            line,
            query,
            negative: at,
            text: item.text(),
            id: item.id(),
            verdict: finding.verdict,
            reasons: finding.reasons.iter().map(|reason| &**reason).collect(),
            scores,
            action,
        })?;
    }
    Ok(())
}
