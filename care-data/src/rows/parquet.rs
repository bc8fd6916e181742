//! Writes rows as a Parquet table.

use std::io::BufWriter;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use care_core::files::AtomicFile;
use care_core::{Error, Result};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use super::record::{Kind, Passage, Record, Value};

/// Rows of a row group.
const GROUP: usize = 4096;

/// A table that is being written, one row group in memory.
pub(super) struct Table {
    path: PathBuf,
    columns: Vec<(String, Kind)>,
    writer: SerializedFileWriter<BufWriter<AtomicFile>>,
    rows: Vec<Record>,
}

impl Table {
    pub(super) fn create(path: &Path, columns: &[(String, Kind)]) -> Result<Self> {
        let fields: Vec<String> = columns.iter().map(|(name, kind)| field(name, *kind)).collect();
        let schema = parse_message_type(&format!("message rows {{ {} }}", fields.join(" ")));
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let file = BufWriter::new(AtomicFile::create(path)?);
        let writer = schema.and_then(|schema| SerializedFileWriter::new(file, Arc::new(schema), properties));
        let writer = writer.map_err(|e| failed(path, e))?;
        Ok(Self { path: path.to_owned(), columns: columns.to_vec(), writer, rows: Vec::new() })
    }

    pub(super) fn push(&mut self, record: Record) -> Result<()> {
        self.rows.push(record);
        if self.rows.len() == GROUP { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let file = self.writer.into_inner().map_err(|e| failed(&self.path, e))?;
        file.into_inner().map_err(|e| Error::io("write", &self.path, e.into_error()))?.commit().map(drop)
    }

    fn flush(&mut self) -> Result<()> {
        let rows = mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.write_group(&rows).map_err(|e| failed(&self.path, e))
    }

    fn write_group(&mut self, rows: &[Record]) -> ParquetResult<()> {
        let mut group = self.writer.next_row_group()?;
        for (at, (_, kind)) in self.columns.iter().enumerate() {
            let values: Vec<Option<&Value>> = rows.iter().map(|row| row.values[at].as_ref()).collect();
            // A list of passages is stored as three columns.
            let parts: &[fn(&Passage) -> &str] = match kind {
                Kind::Passages => &[|passage| &passage.docid, |passage| &passage.title, |passage| &passage.text],
                _ => &[|passage| &passage.text],
            };
            for part in parts {
                if let Some(mut column) = group.next_column()? {
                    write_column(&mut column, *kind, &values, *part)?;
                    column.close()?;
                }
            }
        }
        group.close().map(drop)
    }
}

fn field(name: &str, kind: Kind) -> String {
    let list =
        |element: &str| format!("optional group {name} (LIST) {{ repeated group list {{ optional {element} }} }}");
    match kind {
        Kind::Text => format!("optional binary {name} (UTF8);"),
        Kind::Texts => list("binary element (UTF8);"),
        Kind::Scores => list("float element;"),
        Kind::Passages => list(
            "group element { optional binary docid (UTF8); optional binary title (UTF8); optional binary text (UTF8); }",
        ),
    }
}

/// Dremel's levels: how much of a value's path is there, and at which level it repeats.
#[derive(Default)]
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Levels {
    /// A list of `count` elements, each defined at `full`; `None` is no list.
    fn push(&mut self, count: Option<usize>, full: i16) {
        match count {
            None | Some(0) => {
                self.definition.push(i16::from(count.is_some()));
                self.repetition.push(0);
            }
            Some(count) => {
                self.definition.extend(std::iter::repeat_n(full, count));
                self.repetition.extend((0..count).map(|at| i16::from(at > 0)));
            }
        }
    }
}

fn write_column(
    column: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    values: &[Option<&Value>],
    part: fn(&Passage) -> &str,
) -> ParquetResult<()> {
    let (mut levels, mut texts, mut scores) = (Levels::default(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Some(Value::Text(text)) => {
                levels.definition.push(1);
                texts.push(ByteArray::from(text.as_str()));
            }
            Some(Value::Texts(list)) => {
                levels.push(Some(list.len()), 3);
                texts.extend(list.iter().map(|text| ByteArray::from(text.as_str())));
            }
            Some(Value::Scores(list)) => {
                levels.push(Some(list.len()), 3);
                scores.extend_from_slice(list);
            }
            Some(Value::Passages(list)) => {
                levels.push(Some(list.len()), 4);
                texts.extend(list.iter().map(|passage| ByteArray::from(part(passage))));
            }
            None if kind == Kind::Text => levels.definition.push(0),
            None => levels.push(None, 0),
        }
    }
    let repetition = (kind != Kind::Text).then_some(levels.repetition.as_slice());
    match kind {
        Kind::Scores => column.typed::<FloatType>().write_batch(&scores, Some(&levels.definition), repetition),
        _ => column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels.definition), repetition),
    }
    .map(drop)
}

fn failed(path: &Path, error: parquet::errors::ParquetError) -> Error {
    Error::format(path, format!("cannot write Parquet: {error}")).with_source(error)
}
