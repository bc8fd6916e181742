//! An index as one Parquet file, which DuckDB, polars, pandas, LanceDB and scripts with faiss open.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float16Builder, Float32Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use care_core::files::AtomicFile;
use care_core::index::{DiskIndex, VectorFormat};
use care_core::{Error, Result};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::store::check_range;

/// Rows that are read and written at once.
const ROWS: usize = 1024;
/// Bytes of vectors in a row group.
const GROUP_BYTES: usize = 64 << 20;

/// Writes the rows of an index, in their order, with the columns `id` and `text` (strings), `metadata` (a string with a JSON
/// object) and `vector` (a list of `dim` numbers, in Arrow's `FixedSizeList`). The file's metadata has `care.fingerprint` and
/// `care.instruction`, the tower that the vectors are from. The file has its name when it is complete. `progress` is called with
/// the rows that are done.
///
/// Vectors in f16 are rounded; `DuckDB`, polars and Arrow read them as numbers of 16 bits.
///
/// # Errors
/// If the index cannot be read, a vector is zero or not finite in f16, or the file cannot be written.
pub fn export_parquet(
    index: &DiskIndex,
    path: impl AsRef<Path>,
    vectors: VectorFormat,
    progress: &mut dyn FnMut(usize),
) -> Result<usize> {
    let path = path.as_ref();
    let failed = |e: ParquetError| Error::io("write", path, io::Error::other(e));
    let schema = schema(index.dim(), vectors);
    let properties = properties(index, vectors);
    let file = AtomicFile::create(path)?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(failed)?;
    let rows: Vec<usize> = index.rows().collect();
    for (done, rows) in rows.chunks(ROWS).enumerate() {
        let batch = batch(index, rows, vectors, &schema)?;
        writer.write(&batch).map_err(failed)?;
        progress(done * ROWS + rows.len());
    }
    writer.into_inner().map_err(failed)?.commit()?;
    Ok(rows.len())
}

fn schema(dim: usize, vectors: VectorFormat) -> SchemaRef {
    let number = if vectors == VectorFormat::F16 { DataType::Float16 } else { DataType::Float32 };
    let vector = DataType::FixedSizeList(element(number), dim as i32);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("metadata", DataType::Utf8, false),
        Field::new("vector", vector, false),
    ]))
}

/// A number of a vector, under the name that Parquet's specification has.
fn element(number: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", number, false))
}

fn properties(index: &DiskIndex, vectors: VectorFormat) -> WriterProperties {
    let number_bytes = if vectors == VectorFormat::F16 { 2 } else { 4 };
    let group_rows = (GROUP_BYTES / (number_bytes * index.dim())).max(ROWS);
    let tower = index.tower();
    let vector = ColumnPath::from(vec!["vector".to_owned(), "list".to_owned(), "element".to_owned()]);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Numbers of a vector do not repeat, have no useful bounds and do not shrink.
        .set_column_dictionary_enabled(vector.clone(), false)
        .set_column_statistics_enabled(vector.clone(), EnabledStatistics::None)
        .set_column_compression(vector, Compression::UNCOMPRESSED)
        .set_max_row_group_row_count(Some(group_rows))
        .set_key_value_metadata(Some(vec![
            KeyValue::new("care.fingerprint".to_owned(), tower.fingerprint.clone()),
            KeyValue::new("care.instruction".to_owned(), tower.instruction.clone()),
        ]))
        .build()
}

fn batch(index: &DiskIndex, rows: &[usize], format: VectorFormat, schema: &SchemaRef) -> Result<RecordBatch> {
    let (mut ids, mut texts, mut metadata) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut names = Vec::with_capacity(rows.len());
    for row in rows {
        let record = index.record(*row)?;
        ids.append_value(&record.id);
        texts.append_option(record.text);
        metadata.append_value(serde_json::Value::Object(record.metadata).to_string());
        names.push(record.id);
    }
    let (vectors, dim) = (index.vectors(rows)?, index.dim() as i32);
    let vectors: ArrayRef = if format == VectorFormat::F16 {
        let mut lists = FixedSizeListBuilder::new(Float16Builder::new(), dim).with_field(element(DataType::Float16));
        for (name, vector) in names.iter().zip(vectors.as_array().rows()) {
            let rounded = vector.iter().map(|value| f16::from_f32(*value));
            check_range(name, rounded.clone().map(f16::to_f32), format)?;
            rounded.for_each(|value| lists.values().append_value(value));
            lists.append(true);
        }
        Arc::new(lists.finish())
    } else {
        let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), dim).with_field(element(DataType::Float32));
        vectors.as_array().iter().for_each(|value| lists.values().append_value(*value));
        rows.iter().for_each(|_| lists.append(true));
        Arc::new(lists.finish())
    };
    let columns: Vec<ArrayRef> =
        vec![Arc::new(ids.finish()), Arc::new(texts.finish()), Arc::new(metadata.finish()), vectors];
    Ok(RecordBatch::try_new(schema.clone(), columns).expect("the columns are those of the schema"))
}
