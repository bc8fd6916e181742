//! Event files for TensorBoard: the scalars of a run's log.
//!
//! # Reference
//! TensorFlow's `event.proto` and `summary.proto`, in the framing of TFRecord.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use care_core::files::{AtomicFile, sweep_folder};
use care_core::{Error, Result};

use crate::log::Line;
use crate::report::{EvaluationReport, StepReport, unix_time};

const FOLDER: &str = "tensorboard";
/// The folder of a stage begins with this.
const STAGE: &str = "stage-";
/// TensorBoard reads files with `tfevents` in their name, ordered by name.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".care";

/// The event files of a run in progress: a folder for each stage, since steps count from 1 in each.
pub(crate) struct EventFiles {
    folder: PathBuf,
    /// The file of the stage that is running, with the stage's number.
    open: Option<(usize, PathBuf, File)>,
}

impl EventFiles {
    /// Replaces the event files of a run's folder by those of its log, so that no step is in them that is not, or no
    /// longer, in the log.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written or removed.
    pub(crate) fn open(output: &Path, lines: &[Line]) -> Result<Self> {
        let mut files = Self { folder: output.join(FOLDER), open: None };
        let old = files.files();
        let stages: BTreeSet<usize> = lines.iter().map(|line| line.place().0).collect();
        let mut new = BTreeSet::new();
        for stage in stages {
            new.insert(files.begin(stage, lines.iter().filter(|line| line.place().0 == stage))?);
        }
        for path in old.iter().filter(|path| !new.contains(*path)) {
            fs::remove_file(path).map_err(|e| Error::io("remove", path, e))?;
        }
        let is_ours =
            |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGE));
        for folder in entries(&files.folder).filter(is_ours) {
            // What a kill left of a file; an empty folder would be a run without scalars.
            sweep_folder(&folder);
            fs::remove_dir(&folder).ok();
        }
        Ok(files)
    }

    /// Adds the scalars of a line of the log.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(crate) fn add(&mut self, line: &Line) -> Result<()> {
        let stage = line.place().0;
        if self.open.as_ref().is_none_or(|(open, ..)| *open != stage) {
            self.begin(stage, std::iter::empty())?;
        }
        let Some((_, path, file)) = &mut self.open else { return Ok(()) };
        file.write_all(&records(line)).map_err(|e| Error::io("write", path, e))
    }

    /// Opens a new file for a stage, with these lines in it.
    fn begin<'a>(&mut self, stage: usize, lines: impl Iterator<Item = &'a Line>) -> Result<PathBuf> {
        let folder = self.folder.join(format!("{STAGE}{stage:04}"));
        fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        let now = unix_time();
        let path = folder.join(format!("{PREFIX}{:010}{SUFFIX}", now as u64));
        let mut content = [record(&version(now)), record(&restart(now))].concat();
        lines.for_each(|line| content.extend(records(line)));
        let mut begun = AtomicFile::create(&path)?;
        begun.write_all(&content).map_err(|e| Error::io("write", &path, e))?;
        self.open = Some((stage, path.clone(), begun.commit()?));
        Ok(path)
    }

    /// The event files that a run has written.
    fn files(&self) -> Vec<PathBuf> {
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(PREFIX) && name.ends_with(SUFFIX)
        };
        entries(&self.folder).flat_map(|folder| entries(&folder).filter(is_ours)).collect()
    }
}

/// The paths in a folder; none if there is no such folder.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The scalars of a line as a record.
fn records(line: &Line) -> Vec<u8> {
    let (time, scalars) = match line {
        Line::Step(report) => (report.time, step_scalars(report)),
        Line::Evaluation(report) => (report.time, evaluation_scalars(report)),
    };
    record(&summary(time, line.place().1, &scalars))
}

fn step_scalars(report: &StepReport) -> Vec<(String, f64)> {
    let mut scalars = vec![("train/loss".to_owned(), report.loss)];
    scalars.extend(report.losses.iter().map(|(name, loss)| (format!("train/loss/{name}"), *loss)));
    scalars.push(("train/learning_rate".to_owned(), report.learning_rate));
    scalars.push(("train/grad_norm".to_owned(), report.gradient_norm));
    scalars.push(("train/tokens_per_second".to_owned(), report.tokens_per_second()));
    scalars
}

fn evaluation_scalars(report: &EvaluationReport) -> Vec<(String, f64)> {
    let split = &report.split;
    let mean = report.score.map(|score| (format!("{split}/{}", report.measure), score));
    // Of one task the mean is its score.
    let each = report.scores.iter().filter(|_| report.scores.len() + report.undefined.len() > 1);
    mean.into_iter().chain(each.map(|(task, score)| (format!("{split}/{task}"), *score))).collect()
}

/// A record of TFRecord: the length and the data, each followed by its masked checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// `Event { wall_time: time, file_version: .. }`, the first of a file.
fn version(time: f64) -> Vec<u8> {
    let mut event = double(1, time);
    event.extend(bytes(3, b"brain.Event:2"));
    event
}

/// `Event { wall_time: time, session_log: SessionLog { status: START } }`: a TensorBoard that is running drops what it has
/// read from an earlier file.
fn restart(time: f64) -> Vec<u8> {
    let mut event = double(1, time);
    event.extend(bytes(7, &number(1, 1)));
    event
}

/// `Event { wall_time: time, step, summary: Summary { value: [Value { tag, simple_value }] } }`
fn summary(time: f64, step: usize, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, value) in scalars {
        let mut one = bytes(1, tag.as_bytes());
        one.extend(key(2, 5));
        one.extend((*value as f32).to_le_bytes());
        values.extend(bytes(1, &one));
    }
    let mut event = double(1, time);
    event.extend(number(2, step as u64));
    event.extend(bytes(5, &values));
    event
}

/// The key of a field of a protobuf message: its number and the type of its encoding.
fn key(field: u64, wire: u64) -> Vec<u8> {
    varint(field << 3 | wire)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [key(field, 0), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [key(field, 1), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [key(field, 2), varint(value.len() as u64), value.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stage::StageKind;

    fn step(stage: usize, step: usize) -> Line {
        Line::Step(StepReport {
            stage,
            kind: StageKind::JointFinetuning,
            step,
            total_steps: 9,
            loss: step as f64,
            losses: BTreeMap::from([("info-nce".to_owned(), 0.5)]),
            learning_rate: 1e-4,
            gradient_norm: 2.0,
            tokens: 10,
            seconds: 0.5,
            time: 1.8e9,
        })
    }

    fn score(step: usize, tasks: &[&str], undefined: bool) -> EvaluationReport {
        EvaluationReport {
            stage: 1,
            step,
            split: "dev".into(),
            measure: "ndcg@10".into(),
            score: (!undefined).then_some(0.25),
            scores: tasks.iter().map(|task| ((*task).to_owned(), 0.25)).collect(),
            undefined: undefined.then(|| ("sts".to_owned(), "equal".to_owned())).into_iter().collect(),
            best: true,
            seconds: 1.0,
            time: 1.8e9,
        }
    }

    fn hex(bytes: &[u8]) -> String {
        care_core::files::hex(bytes)
    }

    #[test]
    fn records_are_those_of_tensorboards_own_encoder() {
        // Printed by `care-train/tests/interop/tensorboard_check.py --golden`.
        assert_eq!(
            hex(&record(&version(1.8e9))),
            "1800000000000000a37f4b22090000008074d2da411a0d627261696e2e4576656e743a3248f03b53"
        );
        assert_eq!(hex(&record(&restart(1.8e9))), "0d000000000000003c37b834090000008074d2da413a0208016ebe0a0c");
        let scalars = [("train/loss".to_owned(), 0.75), ("dev/开发集".to_owned(), -1.5)];
        assert_eq!(
            hex(&record(&summary(1.8e9, 300, &scalars))),
            "3700000000000000e7e8ca59090000008074d2da4110ac022a290a110a0a747261696e2f6c6f7373150000403f0a140a0d6465762f\
             e5bc80e58f91e99b86150000c0bfdeb87514"
        );
    }

    #[test]
    fn a_step_and_an_evaluation_have_their_scalars() {
        let Line::Step(report) = step(1, 3) else { panic!("a step") };
        let named = |scalars: Vec<(String, f64)>| {
            scalars.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>()
        };
        let expected = [
            "train/loss 3",
            "train/loss/info-nce 0.5",
            "train/learning_rate 0.0001",
            "train/grad_norm 2",
            "train/tokens_per_second 20",
        ];
        assert_eq!(named(step_scalars(&report)), expected);
        assert_eq!(named(evaluation_scalars(&score(0, &["a"], false))), ["dev/ndcg@10 0.25"]);
        let two = ["dev/ndcg@10 0.25", "dev/a 0.25", "dev/b 0.25"];
        assert_eq!(named(evaluation_scalars(&score(0, &["a", "b"], false))), two);
        assert_eq!(named(evaluation_scalars(&score(0, &["a"], true))), ["dev/a 0.25"], "no mean without every score");
    }

    #[test]
    fn a_resumed_run_has_the_records_of_its_log_once() {
        let place = tempfile::tempdir().expect("a folder");
        let content = |stage: usize| {
            let folder = place.path().join(format!("tensorboard/stage-{stage:04}"));
            let mut names: Vec<PathBuf> =
                fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("a file").path()).collect();
            names.sort();
            assert!(names.len() <= 1, "{names:?}");
            // Behind what the file begins with.
            names.first().map(|name| fs::read(name).expect("read")[record(&version(0.0)).len() + 29..].to_vec())
        };
        assert_eq!(record(&restart(0.0)).len(), 29);
        let of = |lines: &[Line]| Some(lines.iter().flat_map(records).collect::<Vec<u8>>());
        let lines = [step(1, 1), step(1, 2), step(2, 1)];
        let mut files = EventFiles::open(place.path(), &[]).expect("opened");
        assert_eq!(content(1), None);
        lines.iter().for_each(|line| files.add(line).expect("written"));
        assert_eq!((content(1), content(2)), (of(&lines[..2]), of(&lines[2..])));
        // A file of an earlier second, and one that is not ours.
        let folder = place.path().join("tensorboard/stage-0001");
        fs::rename(
            fs::read_dir(&folder).expect("a folder").next().expect("a file").expect("a file").path(),
            folder.join("events.out.tfevents.0000000001.care"),
        )
        .expect("renamed");
        let note = place.path().join("tensorboard/note.txt");
        fs::write(&note, "mine").expect("written");
        // What a kill leaves of a file.
        let rest = folder.join(".events.out.tfevents.0000000001.care.1-1.partial");
        fs::write(&rest, "half").expect("written");

        let mut files = EventFiles::open(place.path(), &lines[..1]).expect("opened");
        assert_eq!((content(1), content(2)), (of(&lines[..1]), None));
        assert!(!place.path().join("tensorboard/stage-0002").exists() && note.exists());
        files.add(&step(1, 2)).expect("written");
        assert_eq!(content(1), of(&lines[..2]));
    }
}
