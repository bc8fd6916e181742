//! Reads tables of vectors.

use bytes::Bytes;
use care_core::{Error, Result};
use half::f16;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{KEY, Origin, guarded};

/// Rows that are decoded at once.
const ROWS: usize = 1024;

/// A table in memory.
pub(crate) struct Table {
    place: String,
    content: Bytes,
    reader: SerializedFileReader<Bytes>,
}

impl Table {
    /// Reads the end of a table.
    pub(crate) fn open(place: &str, content: Bytes) -> Result<Self> {
        let reader = guarded(place, || SerializedFileReader::new(content.clone()))?;
        Ok(Self { place: place.to_owned(), content, reader })
    }

    pub(super) fn content(&self) -> &Bytes {
        &self.content
    }

    pub(super) fn reader(&self) -> &SerializedFileReader<Bytes> {
        &self.reader
    }

    pub(crate) fn rows(&self) -> u64 {
        self.reader.metadata().file_metadata().num_rows() as u64
    }

    /// What the vectors are.
    pub(crate) fn origin(&self) -> Result<Origin> {
        let pairs = self.reader.metadata().file_metadata().key_value_metadata();
        let value = pairs.into_iter().flatten().find(|pair| pair.key == KEY).and_then(|pair| pair.value.as_deref());
        let value = value.ok_or_else(|| Error::format(&self.place, format!("the metadata has no `{KEY}`")))?;
        serde_json::from_str(value).map_err(|e| Error::format(&self.place, format!("`{KEY}`: {e}")).with_source(e))
    }

    /// The ids in order.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        guarded(&self.place, || {
            for group in 0..self.reader.num_row_groups() {
                let ColumnReader::ByteArrayColumnReader(mut reader) =
                    self.reader.get_row_group(group)?.get_column_reader(0)?
                else {
                    return Err(ParquetError::General("ids that are no text".to_owned()));
                };
                let mut values = Vec::new();
                reader.read_records(usize::MAX, None, None, &mut values)?;
                ids.extend(values.iter().map(|value| String::from_utf8_lossy(value.data()).into_owned()));
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// Calls `each` with groups of vectors as f32, in order: `[rows, dim]`, row by row.
    pub(crate) fn vectors(&self, dim: usize, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        for group in 0..self.reader.num_row_groups() {
            let mut vectors = guarded(&self.place, || Vectors::open(&self.reader, group))?;
            let rows = self.reader.metadata().row_group(group).num_rows() as usize;
            for start in (0..rows).step_by(ROWS) {
                let values = guarded(&self.place, || vectors.read(ROWS.min(rows - start), dim))?;
                each(&values)?;
            }
        }
        Ok(())
    }
}

/// The vectors of a row group, in any dtype.
struct Vectors {
    values: ColumnReader,
    scales: Option<ColumnReader>,
}

impl Vectors {
    fn open(reader: &SerializedFileReader<Bytes>, group: usize) -> ParquetResult<Self> {
        let group = reader.get_row_group(group)?;
        let scales = (group.num_columns() > 2).then(|| group.get_column_reader(2)).transpose()?;
        Ok(Self { values: group.get_column_reader(1)?, scales })
    }

    /// The next rows.
    fn read(&mut self, rows: usize, dim: usize) -> ParquetResult<Vec<f32>> {
        let unexpected = || ParquetError::General(format!("vectors of another size than {dim}"));
        let values = match &mut self.values {
            ColumnReader::FloatColumnReader(reader) => read_lists(reader, rows, |value| *value)?,
            ColumnReader::FixedLenByteArrayColumnReader(reader) => read_lists(reader, rows, |value| {
                value.data().first_chunk().map_or(f32::NAN, |bytes| f16::from_le_bytes(*bytes).to_f32())
            })?,
            ColumnReader::Int32ColumnReader(reader) => {
                let codes = read_lists(reader, rows, |value| *value as f32)?;
                let Some(ColumnReader::FloatColumnReader(scales)) = &mut self.scales else { return Err(unexpected()) };
                let mut factors = Vec::new();
                scales.read_records(rows, None, None, &mut factors)?;
                codes
                    .chunks(dim)
                    .zip(&factors)
                    .flat_map(|(row, scale)| row.iter().map(move |code| code * scale))
                    .collect()
            }
            _ => return Err(unexpected()),
        };
        if values.len() == rows * dim { Ok(values) } else { Err(unexpected()) }
    }
}

fn read_lists<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    value: impl Fn(&T::T) -> f32,
) -> ParquetResult<Vec<f32>> {
    let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
    reader.read_records(rows, Some(&mut definition), Some(&mut repetition), &mut values)?;
    Ok(values.iter().map(value).collect())
}
