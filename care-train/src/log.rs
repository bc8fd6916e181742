//! The log of a run: one JSON object a line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// The stage and the steps of it that were done.
    pub(crate) fn place(&self) -> (usize, usize) {
        match self {
            Line::Step(report) => (report.stage, report.step),
            Line::Evaluation(report) => (report.stage, report.step),
        }
    }
}

/// The log of a run under way.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Begins the log anew, or keeps its lines up to the place of the checkpoint that a run goes on from.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn open(output: &Path, resumed_at: Option<(usize, usize)>) -> Result<Self> {
        let path = output.join(FILE);
        let kept = match resumed_at {
            Some(place) => read(output)?.into_iter().filter(|line| line.place() <= place).collect(),
            None => Vec::new(),
        };
        fs::create_dir_all(output).map_err(|e| Error::io("create", output, e))?;
        // Written beside and moved: a kill leaves the old lines or the new ones.
        let partial = output.join(format!(".{FILE}.partial"));
        let file = File::create(&partial).map_err(|e| Error::io("write", &partial, e))?;
        let mut log = Self { path: partial, file };
        kept.iter().try_for_each(|line| log.write(line))?;
        fs::rename(&log.path, &path).map_err(|e| Error::io("rename", &log.path, e))?;
        Ok(Self { path, ..log })
    }

    /// Adds what an event has to say, if it is one that is kept.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(report) => self.write(&Line::Step(report.clone())),
            Event::Evaluation(report) => self.write(&Line::Evaluation(report.clone())),
            Event::Teacher(_) => Ok(()),
        }
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let mut json = serde_json::to_string(line).map_err(|e| Error::format(&self.path, e))?;
        json.push('\n');
        self.file.write_all(json.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// The lines of a run's log; a line that a kill cut short is left out.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn read(output: &Path) -> Result<Vec<Line>> {
    let path = output.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
