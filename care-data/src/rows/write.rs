//! Writes training rows, as JSON Lines or Parquet.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use care_core::files::AtomicFile;
use care_core::{Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::example::TrainingExample;
use super::format::RowFormat;
#[cfg(not(feature = "parquet"))]
use super::no_parquet::Table;
#[cfg(feature = "parquet")]
use super::parquet::Table;
use super::record::{Kind, Record, columns, records};

/// Writes training rows to a file that appears whole when it is finished.
///
/// `.jsonl` is JSON Lines, `.jsonl.gz` packed, `.parquet` Parquet (with the Cargo feature `parquet`).
///
/// ```
/// # let path = std::env::temp_dir().join(format!("care-rows-{}.jsonl", std::process::id()));
/// use care_data::rows::{RowFormat, RowWriter, TrainingExample};
///
/// let mut writer = RowWriter::create(&path, RowFormat::Triplet)?;
/// writer.write(&TrainingExample::new("头痛", vec!["止痛".into()], vec!["发烧".into(), "咳嗽".into()]))?;
/// assert_eq!(writer.finish()?, 2);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), care_core::Error>(())
/// ```
pub struct RowWriter {
    path: PathBuf,
    format: RowFormat,
    names: Arc<[(String, Kind)]>,
    sink: Sink,
    rows: usize,
    left_out: usize,
}

enum Sink {
    Plain(BufWriter<AtomicFile>),
    Packed(GzEncoder<BufWriter<AtomicFile>>),
    Table(Table),
}

impl RowWriter {
    /// Starts a file in a form.
    ///
    /// # Errors
    /// If the file cannot be created, or its name ends in none of the extensions above.
    pub fn create(path: impl AsRef<Path>, format: RowFormat) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names: Arc<[_]> = columns(format).into();
        let file = || Ok::<_, Error>(BufWriter::with_capacity(1 << 16, AtomicFile::create(&path)?));
        let sink = if name.ends_with(".jsonl") {
            Sink::Plain(file()?)
        } else if name.ends_with(".jsonl.gz") {
            Sink::Packed(GzEncoder::new(file()?, Compression::default()))
        } else if name.ends_with(".parquet") {
            Sink::Table(Table::create(&path, &names)?)
        } else {
            return Err(Error::format(&path, "training rows are written as .jsonl, .jsonl.gz or .parquet"));
        };
        Ok(Self { path, format, names, sink, rows: 0, left_out: 0 })
    }

    /// Writes an example, in as many rows as the form needs for it, or in none ([`RowWriter::left_out`]).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, row: &TrainingExample) -> Result<()> {
        let records = records(self.format, row);
        self.left_out += usize::from(records.is_empty());
        for values in records {
            self.rows += 1;
            let record = Record { names: Arc::clone(&self.names), values };
            match &mut self.sink {
                Sink::Plain(out) => write_line(out, &record),
                Sink::Packed(out) => write_line(out, &record),
                Sink::Table(table) => {
                    table.push(record)?;
                    continue;
                }
            }
            .map_err(|e| Error::io("write", &self.path, e))?;
        }
        Ok(())
    }

    /// Writes a row that is an object of JSON already, whatever its form.
    ///
    /// # Errors
    /// If the file is Parquet or cannot be written.
    pub fn write_json(&mut self, row: &str) -> Result<()> {
        self.rows += 1;
        match &mut self.sink {
            Sink::Plain(out) => writeln!(out, "{row}"),
            Sink::Packed(out) => writeln!(out, "{row}"),
            Sink::Table(_) => return Err(Error::format(&self.path, "rows of JSON are written as .jsonl or .jsonl.gz")),
        }
        .map_err(|e| Error::io("write", &self.path, e))
    }

    /// Examples that the form has no row for: too few negatives.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Moves the complete file into place. Returns its number of rows.
    ///
    /// # Errors
    /// If the file cannot be written; what was at its place is then still there.
    pub fn finish(self) -> Result<usize> {
        let failed = |e| Error::io("write", &self.path, e);
        let file = match self.sink {
            Sink::Plain(out) => out,
            Sink::Packed(out) => out.finish().map_err(failed)?,
            Sink::Table(table) => {
                table.finish()?;
                return Ok(self.rows);
            }
        };
        file.into_inner().map_err(|e| failed(e.into_error()))?.commit()?;
        Ok(self.rows)
    }
}

fn write_line(out: &mut impl Write, record: &Record) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{RowType, for_each_example};

    fn example() -> TrainingExample {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        TrainingExample::new("头痛", texts(&["止痛", "休息"]), texts(&["发烧", "咳\n嗽"])).with(|row| {
            row.positive_scores = vec![0.9, 0.8];
            row.negative_scores = vec![0.5, -0.25];
            row.query_id = Some("q1".into());
            row.positive_ids = texts(&["d1", "d2"]);
            row.negative_ids = texts(&["d3", "4"]);
            row.prompt = Some("查找".into());
            row.row_type = RowType::SymmetricClass;
        })
    }

    fn written(name: &str, format: RowFormat, rows: &[TrainingExample]) -> (Vec<TrainingExample>, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let mut writer = RowWriter::create(&path, format).expect("created");
        rows.iter().for_each(|row| writer.write(row).expect("written"));
        let left_out = writer.left_out();
        let count = writer.finish().expect("finished");
        let mut read = Vec::new();
        for_each_example(&path, &mut |_, row| {
            read.push(row);
            Ok(())
        })
        .expect("read");
        assert_eq!(read.len(), count);
        (read, left_out)
    }

    const NAMES: &[&str] = &[
        "rows.jsonl",
        "rows.jsonl.gz",
        #[cfg(feature = "parquet")]
        "rows.parquet",
    ];

    #[test]
    fn rows_are_read_back_as_they_were() {
        let bare = TrainingExample::new("q", vec!["p".into()], vec![]);
        for name in NAMES {
            let rows = [example(), bare.clone(), example()];
            assert_eq!(written(name, RowFormat::FlagEmbedding, &rows), (rows.to_vec(), 0), "{name}");

            let passages = example().with(|row| {
                (row.prompt, row.row_type) = (None, RowType::Normal);
                (row.positive_scores, row.negative_scores) = (vec![], vec![]);
            });
            let (read, _) = written(name, RowFormat::Tevatron, &[example(), bare.clone()]);
            assert_eq!(read[0], passages, "{name}");
            assert_eq!((read[1].query_id.as_deref(), read[1].positive_ids.len()), (Some("8e35c2cd3bf6641b"), 1));
        }
    }

    #[test]
    fn triplets_and_tuples_have_a_row_for_each_positive() {
        let bare = TrainingExample::new("q", vec!["p".into()], vec!["n".into()]);
        for name in NAMES {
            let (read, left_out) = written(name, RowFormat::Triplet, &[example(), bare.clone()]);
            let facts = |row: &TrainingExample| {
                (
                    row.positives.join("|"),
                    row.negatives.join("|"),
                    row.positive_scores.clone(),
                    row.negative_scores.clone(),
                )
            };
            assert_eq!(facts(&read[1]), ("止痛".into(), "咳\n嗽".into(), vec![0.9], vec![-0.25]), "{name}");
            assert_eq!(facts(&read[4]), ("p".into(), "n".into(), vec![], vec![]), "{name}");
            assert_eq!((read.len(), left_out), (5, 0));

            let (read, left_out) = written(name, RowFormat::NTuple(2), &[example(), bare.clone()]);
            assert_eq!(facts(&read[1]), ("休息".into(), "发烧|咳\n嗽".into(), vec![0.8], vec![0.5, -0.25]), "{name}");
            assert_eq!((read.len(), left_out), (2, 1));
        }
    }

    #[test]
    fn other_files_and_forms_are_refused() {
        let refusal = |name: &str| RowWriter::create(name, RowFormat::Triplet).map(|_| ()).expect_err(name).to_string();
        for name in ["rows.csv", "rows", "rows.parquet.gz"] {
            assert_eq!(refusal(name), format!("{name}: training rows are written as .jsonl, .jsonl.gz or .parquet"));
        }
        for name in ["n-tuple", "n-tuple-0", "jsonl"] {
            let error = name.parse::<RowFormat>().expect_err(name).to_string();
            assert!(error.starts_with(&format!("`format` is {name}, allowed: flagembedding, triplet, n-tuple-N")));
        }
        for format in [RowFormat::FlagEmbedding, RowFormat::Triplet, RowFormat::NTuple(7), RowFormat::Tevatron] {
            assert_eq!(format.to_string().parse::<RowFormat>().expect("named"), format);
        }
    }
}
