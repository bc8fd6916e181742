//! Writes tables: the vectors of a shard, and files of many shards.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use care_core::Result;
use half::f16;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::FileReader;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Origin, Table, arrow_schema, failed};
use crate::dtype::{Dtype, quantize};

/// Values that are handed to the library at once, which bounds the memory of their copies.
const VALUES: usize = 1 << 18;

/// The table of the vectors of a shard, one row group.
///
/// # Shapes
/// `vectors`: `[ids, dim]`, row by row.
pub(crate) fn encode(ids: &[String], vectors: &[f32], dim: usize, dtype: Dtype, origin: &Origin) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(ids.len() * (dtype.row_bytes(dim) + 24) + 4096);
    let written = origin.key_value().and_then(|key_value| {
        let mut writer = writer(&mut out, dtype, dim)?;
        writer.append_key_value_metadata(key_value);
        let mut group = writer.next_row_group()?;
        let texts: Vec<ByteArray> = ids.iter().map(|id| ByteArray::from(id.as_str())).collect();
        column(&mut group, |column| column.typed::<ByteArrayType>().write_batch(&texts, None, None).map(drop))?;
        let rows = vectors.chunks((VALUES / dim).max(1) * dim);
        let mut scales = Vec::new();
        column(&mut group, |column| {
            rows.into_iter().try_for_each(|rows| write_rows(column, rows, dim, dtype, &mut scales))
        })?;
        if dtype == Dtype::Int8 {
            column(&mut group, |column| column.typed::<FloatType>().write_batch(&scales, None, None).map(drop))?;
        }
        group.close()?;
        writer.close().map(drop)
    });
    written.map_err(|e| failed("the vectors of a shard", e))?;
    Ok(out)
}

fn writer<W: Write + Send>(out: W, dtype: Dtype, dim: usize) -> ParquetResult<SerializedFileWriter<W>> {
    let (element, scale) = match dtype {
        Dtype::F32 => ("float element", ""),
        Dtype::F16 => ("fixed_len_byte_array(2) element (FLOAT16)", ""),
        Dtype::Int8 => ("int32 element (INTEGER(8, true))", "required float scale;"),
    };
    let schema = parse_message_type(&format!(
        "message vectors {{ required binary id (UTF8); \
         required group embedding (LIST) {{ repeated group list {{ required {element}; }} }} {scale} }}"
    ))?;
    let vectors = ColumnPath::new(["embedding", "list", "element"].map(str::to_owned).to_vec());
    // The 255 codes of int8 are a dictionary, so that each takes one byte. Nothing else would gain by one.
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(vectors.clone(), dtype == Dtype::Int8)
        .set_column_encoding(vectors.clone(), Encoding::PLAIN)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_compression(vectors.clone(), Compression::UNCOMPRESSED)
        .set_column_statistics_enabled(vectors, EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(vec![arrow_schema::key_value(dtype, dim)]))
        .build();
    SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
}

fn column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    write: impl FnOnce(&mut SerializedColumnWriter<'_>) -> ParquetResult<()>,
) -> ParquetResult<()> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    write(&mut column)?;
    column.close()
}

fn write_rows(
    column: &mut SerializedColumnWriter<'_>,
    rows: &[f32],
    dim: usize,
    dtype: Dtype,
    scales: &mut Vec<f32>,
) -> ParquetResult<()> {
    match dtype {
        Dtype::F32 => write_values::<FloatType>(column, rows, dim),
        Dtype::F16 => {
            let bytes = Bytes::from_iter(rows.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
            let value = |at| FixedLenByteArray::from(ByteArray::from(bytes.slice(2 * at..2 * at + 2)));
            let values: Vec<FixedLenByteArray> = (0..rows.len()).map(value).collect();
            write_values::<FixedLenByteArrayType>(column, &values, dim)
        }
        Dtype::Int8 => {
            let mut codes = Vec::with_capacity(rows.len());
            scales.extend(rows.chunks(dim).map(|row| quantize(row, &mut codes)));
            write_values::<Int32Type>(column, &codes, dim)
        }
    }
}

/// Lists of `dim` values, none of them null.
fn write_values<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: &[T::T],
    dim: usize,
) -> ParquetResult<()> {
    let definition = vec![1; values.len()];
    // Dremel's levels: 0 where a list begins.
    let repetition: Vec<i16> = (0..values.len()).map(|at| i16::from(at % dim > 0)).collect();
    column.typed::<T>().write_batch(values, Some(&definition), Some(&repetition)).map(drop)
}

/// A file of many shards, whose encoded columns are copied as they are.
pub(crate) struct Concatenation<W: Write + Send> {
    place: String,
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> Concatenation<W> {
    pub(crate) fn new(place: &str, out: W, dtype: Dtype, dim: usize, origin: &Origin) -> Result<Self> {
        let opened = origin.key_value().and_then(|key_value| {
            let mut writer = writer(out, dtype, dim)?;
            writer.append_key_value_metadata(key_value);
            Ok(writer)
        });
        Ok(Self { place: place.to_owned(), writer: opened.map_err(|e| failed(place, e))? })
    }

    /// Appends the row groups of a table.
    pub(crate) fn append(&mut self, table: &Table) -> Result<()> {
        self.copy(table).map_err(|e| failed(&self.place, e))
    }

    fn copy(&mut self, table: &Table) -> ParquetResult<()> {
        for group in table.reader().metadata().row_groups() {
            let mut out = self.writer.next_row_group()?;
            for column in group.columns() {
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size() as u64,
                    rows_written: group.num_rows() as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                out.append_column(table.content(), close)?;
            }
            out.close()?;
        }
        Ok(())
    }

    /// Writes the end of the file; returns what it was written to.
    pub(crate) fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(|e| failed(&self.place, e))
    }
}
