//! The scores of an interrupted run, from which the next one goes on.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use care_core::files::write_atomic;
use care_core::{Error, Result};
use care_data::rows::TrainingExample;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stderr::note;

/// The scores of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RowScores {
    pub(super) positives: Vec<f32>,
    pub(super) negatives: Vec<f32>,
}

/// A file beside the output: a line that says what is scored by what, then the scores of each row.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Those of the earlier run, the first row last.
    kept: Vec<RowScores>,
}

impl Journal {
    /// Opens the journal of an output. What another run left there is kept if it scored the same rows in the same way.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(super) fn open(output: &Path, work: &Value) -> Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(".scores.jsonl");
        let path = PathBuf::from(name);
        let mut kept = read(&path, work);
        let failed = |e| Error::io("write", &path, e);
        // Written anew, without the line that was not finished; the old file stays until the new one is whole.
        let mut text = format!("{work}\n");
        for scores in &kept {
            text += &line(scores, &path)?;
        }
        write_atomic(&path, text)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        kept.reverse();
        Ok(Self { path, file, kept })
    }

    /// Rows of the earlier run that are still to come.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The scores of the next row, if the earlier run got that far.
    ///
    /// # Errors
    /// If they are of a row with another number of texts.
    pub(super) fn next_kept(&mut self, row: &TrainingExample) -> Result<Option<RowScores>> {
        let Some(scores) = self.kept.pop() else { return Ok(None) };
        if (scores.positives.len(), scores.negatives.len()) == (row.positives.len(), row.negatives.len()) {
            return Ok(Some(scores));
        }
        Err(Error::format(&self.path, "the scores are not those of these rows: remove the file"))
    }

    /// Adds the scores of rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn append(&mut self, rows: &[RowScores]) -> Result<()> {
        let lines = rows.iter().map(|scores| line(scores, &self.path)).collect::<Result<String>>()?;
        self.file.write_all(lines.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Removes the file, whose scores are in the output now.
    pub(super) fn remove(self) {
        // One that stays is only ignored space.
        std::fs::remove_file(&self.path).ok();
    }
}

fn line(scores: &RowScores, path: &Path) -> Result<String> {
    let text = serde_json::to_string(scores).map_err(|e| Error::io("write", path, e.into()))?;
    Ok(text + "\n")
}

/// The scores of an earlier run of the same work; none if there was none.
fn read(path: &Path, work: &Value) -> Vec<RowScores> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let mut lines = BufReader::new(file).lines().map_while(std::result::Result::ok);
    if lines.next().and_then(|first| serde_json::from_str(&first).ok()).as_ref() != Some(work) {
        note!("note: {} is of other rows or another scorer, and is begun anew", path.display());
        return Vec::new();
    }
    lines.map_while(|line| serde_json::from_str(&line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scores(first: f32) -> RowScores {
        RowScores { positives: vec![first, 0.1], negatives: vec![-1.5e-7] }
    }

    fn row() -> TrainingExample {
        TrainingExample::new("q", vec!["a".into(), "b".into()], vec!["c".into()])
    }

    #[test]
    fn a_run_goes_on_where_the_last_one_was_killed() {
        let place = tempfile::tempdir().expect("a folder");
        let output = place.path().join("out.jsonl");
        let work = json!({"rows": ["x"], "scorer": "y"});
        let mut first = Journal::open(&output, &work).expect("opened");
        assert_eq!(first.next_kept(&row()).expect("none"), None);
        first.append(&[scores(1.0), scores(2.0)]).expect("written");
        drop(first);
        // Killed in the middle of a line.
        let path = place.path().join("out.jsonl.scores.jsonl");
        let text = std::fs::read_to_string(&path).expect("read") + "{\"positives\":[0.5";
        std::fs::write(&path, text).expect("written");
        let mut second = Journal::open(&output, &work).expect("opened");
        assert_eq!(second.kept(), 2);
        assert_eq!(second.next_kept(&row()).expect("of this row"), Some(scores(1.0)));
        assert_eq!(second.next_kept(&row()).expect("of this row"), Some(scores(2.0)));
        assert_eq!(second.next_kept(&row()).expect("of this row"), None);
        second.append(&[scores(3.0)]).expect("written");
        drop(second);
        let mut third = Journal::open(&output, &work).expect("opened");
        assert_eq!(third.kept(), 3);
        let other = third.next_kept(&TrainingExample::new("q", vec!["a".into()], vec![])).expect_err("another size");
        assert!(other.to_string().ends_with("the scores are not those of these rows: remove the file"), "{other}");
        drop(third);
        assert_eq!(Journal::open(&output, &json!({"rows": ["z"], "scorer": "y"})).expect("opened").kept(), 0);
        Journal::open(&output, &work).expect("opened").remove();
        assert!(!path.exists());
    }
}
