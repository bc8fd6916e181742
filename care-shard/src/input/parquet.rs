//! The rows of a range of rows of a Parquet file. Only the three columns are read, and pages before the range are skipped.

use std::ops::Range;

use care_core::{Error, Result, guard};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor, SchemaDescriptor};
use serde_json::Value;

use super::cached::CachedFile;
use super::row::{Fields, Row, Rows, id_of, row};
use crate::storage::Storage;

/// The number of rows of a file.
pub(super) fn rows(storage: &Storage, size: u64) -> Result<u64> {
    let reader = open(&CachedFile::new(storage, size))?;
    Ok(reader.metadata().file_metadata().num_rows() as u64)
}

/// Reads the rows of a part of a file of `size` bytes.
pub(super) fn read(storage: &Storage, size: u64, fields: &Fields, part: Range<u64>) -> Result<Rows> {
    let file = CachedFile::new(storage, size);
    let reader = open(&file)?;
    let failed = |problem: String| Error::format(storage.url(), problem);
    let columns = Columns::find(reader.metadata().file_metadata().schema_descr(), fields).map_err(failed)?;
    let (mut rows, mut begin) = (Vec::new(), 0);
    for group in 0..reader.metadata().num_row_groups() {
        let end = begin + reader.metadata().row_group(group).num_rows() as u64;
        let (first, last) = (part.start.max(begin), part.end.min(end));
        if first < last {
            let of_group = (first - begin) as usize..(last - begin) as usize;
            let column = |at: usize| guarded(&file, || values(&reader, group, at, of_group.clone()));
            let (ids, texts) = (column(columns.id)?, column(columns.text)?);
            let titles = columns.title.map(column).transpose()?;
            let mut titles = titles.into_iter().flatten();
            for (number, (id, text)) in (first..).zip(ids.into_iter().zip(texts)) {
                let title = titles.next().unwrap_or(Value::Null);
                let made = make(fields, id, title, text);
                rows.push(made.map_err(|problem| Error::line(storage.url(), number as usize + 1, problem))?);
            }
        }
        begin = end;
    }
    Ok(Rows { rows, range: part })
}

fn make(fields: &Fields, id: Value, title: Value, text: Value) -> std::result::Result<Row, String> {
    let string = |name: &str, value: Value| match value {
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        other => Err(format!("column `{name}` is {other}, expected text")),
    };
    let text = string(&fields.text, text)?.ok_or_else(|| format!("column `{}` is null", fields.text))?;
    Ok(row(id_of(id)?, string(&fields.title, title)?, text))
}

fn open(file: &CachedFile) -> Result<SerializedFileReader<CachedFile>> {
    let options = ReadOptionsBuilder::new().with_page_index().build();
    guarded(file, || SerializedFileReader::new_with_options(file.clone(), options))
}

/// The library panics on some damaged files.
fn guarded<T>(file: &CachedFile, call: impl FnOnce() -> ParquetResult<T>) -> Result<T> {
    let failed = |problem: String| Error::format(file.url(), format!("not a readable Parquet file: {problem}"));
    match guard::guarded(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) if file.has_failed() => Err(Error::io("read", file.url(), std::io::Error::other(e))),
        Ok(Err(e)) => Err(failed(e.to_string()).with_source(e)),
        Err(_) => Err(failed("it is damaged or of an unsupported type".to_owned())),
    }
}

/// The columns of a document, by their place.
struct Columns {
    id: usize,
    title: Option<usize>,
    text: usize,
}

impl Columns {
    fn find(schema: &SchemaDescriptor, fields: &Fields) -> std::result::Result<Self, String> {
        let find = |is: &dyn Fn(&str) -> bool| {
            let at = (0..schema.num_columns()).find(|at| is(&schema.column(*at).path().parts()[0]))?;
            Some((at, schema.column(at)))
        };
        let usable = |name: &str, found: Option<(usize, ColumnDescPtr)>| match found {
            Some((at, column)) => is_scalar(&column).then_some(at).ok_or(format!("column `{name}` is no text")),
            None => Err(format!("missing column `{name}`")),
        };
        let title = find(&|name| name == fields.title);
        Ok(Self {
            id: usable(&fields.id, find(&|name| fields.is_id(name)))?,
            text: usable(&fields.text, find(&|name| name == fields.text))?,
            title: title.map(|found| usable(&fields.title, Some(found))).transpose()?,
        })
    }
}

/// Whether a column is not nested, and of text or of integers.
fn is_scalar(column: &ColumnDescriptor) -> bool {
    let is_moment = matches!(column.converted_type(), ConvertedType::DATE)
        || matches!(column.logical_type_ref(), Some(LogicalType::Timestamp { .. } | LogicalType::Time { .. }));
    let is_known = matches!(column.physical_type(), Physical::BYTE_ARRAY | Physical::INT32 | Physical::INT64);
    column.path().parts().len() == 1 && column.max_rep_level() == 0 && is_known && !is_moment
}

/// The values of rows of a row group's column.
fn values(
    reader: &SerializedFileReader<CachedFile>,
    group: usize,
    column: usize,
    rows: Range<usize>,
) -> ParquetResult<Vec<Value>> {
    let nullable = reader.metadata().row_group(group).column(column).column_descr().max_def_level() > 0;
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::from(text)),
        Err(e) => Err(ParquetError::External(Box::new(e))),
    };
    match reader.get_row_group(group)?.get_column_reader(column)? {
        ColumnReader::ByteArrayColumnReader(reader) => read_column(reader, nullable, rows, |value| text(value.data())),
        ColumnReader::Int32ColumnReader(reader) => read_column(reader, nullable, rows, |value| Ok((*value).into())),
        ColumnReader::Int64ColumnReader(reader) => read_column(reader, nullable, rows, |value| Ok((*value).into())),
        _ => Err(ParquetError::NYI("a column that is no text".to_owned())),
    }
}

fn read_column<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    nullable: bool,
    rows: Range<usize>,
    value: impl Fn(&T::T) -> ParquetResult<Value>,
) -> ParquetResult<Vec<Value>> {
    reader.skip_records(rows.start)?;
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let definition = nullable.then_some(&mut levels);
    let (read, ..) = reader.read_records(rows.len(), definition, None, &mut values)?;
    if read != rows.len() {
        return Err(ParquetError::EOF(format!("{read} of {} rows", rows.len())));
    }
    if !nullable {
        return values.iter().map(value).collect();
    }
    let mut defined = values.iter();
    let next = |level: &i16| if *level == 0 { Ok(Value::Null) } else { defined.next().map_or(Ok(Value::Null), &value) };
    levels.iter().map(next).collect()
}
