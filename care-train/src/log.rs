//! The log of a run: one JSON object per line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use care_core::files::AtomicFile;
use care_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::report::{EvaluationReport, Event, StepReport};

const FILE: &str = "log.jsonl";

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Line {
    Step(StepReport),
    Evaluation(EvaluationReport),
}

impl Line {
    /// The line for an event, if events of its kind are logged.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Step(report) => Some(Line::Step(report.clone())),
            Event::Evaluation(report) => Some(Line::Evaluation(report.clone())),
            Event::Teacher(_) | Event::Warning(_) => None,
        }
    }

    /// The number of the stage, from 1, and that of its completed steps.
    pub(crate) fn place(&self) -> (usize, usize) {
        match self {
            Line::Step(report) => (report.stage, report.step),
            Line::Evaluation(report) => (report.stage, report.step),
        }
    }
}

/// The log of a run in progress.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Starts a new log or, for a resumed run, keeps the lines up to the checkpoint.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(crate) fn open(output: &Path, resumed_at: Option<(usize, usize)>) -> Result<Self> {
        let path = output.join(FILE);
        let kept = match resumed_at {
            Some(place) => read(output)?.into_iter().filter(|line| line.place() <= place).collect(),
            None => Vec::new(),
        };
        fs::create_dir_all(output).map_err(|e| Error::io("create", output, e))?;
        // A kill leaves either the old lines or the new ones.
        let mut begun = AtomicFile::create(&path)?;
        for line in &kept {
            begun.write_all(json_line(line, &path)?.as_bytes()).map_err(|e| Error::io("write", &path, e))?;
        }
        let file = begun.commit()?;
        Ok(Self { path, file })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(crate) fn add(&mut self, line: &Line) -> Result<()> {
        let line = json_line(line, &self.path)?;
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}

fn json_line(line: &Line, path: &Path) -> Result<String> {
    let json = serde_json::to_string(line).map_err(|e| Error::format(path, &e).with_source(e))?;
    Ok(json + "\n")
}

/// Reads the lines of a run's log, except those that a kill or a full disk cut short, perhaps within a character.
///
/// # Errors
/// Returns an error if the file exists but cannot be read.
pub(crate) fn read(output: &Path) -> Result<Vec<Line>> {
    let path = output.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lines_that_are_cut_short_are_dropped_even_within_a_character() {
        let line = |step| {
            Line::Evaluation(EvaluationReport {
                stage: 0,
                step,
                split: "dev".into(),
                measure: "ndcg@10".into(),
                score: (step > 0).then_some(0.5),
                scores: BTreeMap::from([("开发集".to_owned(), 0.5)]),
                undefined: BTreeMap::new(),
                best: false,
                seconds: 1.0,
                time: 1.8e9,
            })
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let [first, second] = [0, 1].map(|step| json_line(&line(step), &path).expect("written").into_bytes());
        let inside = second.windows(3).position(|part| part == "集".as_bytes()).expect("the name") + 1;
        for cut in [1, inside, inside + 1, inside + 2, second.len() - 1] {
            // A resumed run may have added a line behind the torn one.
            let whole = [&first, &second[..cut], b"\n", &second].concat();
            fs::write(&path, &whole).expect("written");
            let expected =
                if cut == second.len() - 1 { vec![line(0), line(1), line(1)] } else { vec![line(0), line(1)] };
            assert_eq!(read(folder.path()).expect("read"), expected, "cut after {cut} bytes");
            fs::write(&path, &whole[..first.len() + cut]).expect("written");
            let expected = &expected[..expected.len() - 1];
            assert_eq!(read(folder.path()).expect("read"), expected, "cut after {cut} bytes");
        }
    }
}
