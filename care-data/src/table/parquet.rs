//! Rows of a Parquet file.

use std::fs::File;
use std::path::Path;

use care_core::files::open_file;
use care_core::{Error, Result, guard};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde::de::DeserializeOwned;

use super::cell::{Cell, row_of};

/// Calls `each` with the number of every row, from 1, and its content.
pub(super) fn for_each<R: DeserializeOwned>(path: &Path, each: &mut dyn FnMut(usize, R) -> Result<()>) -> Result<()> {
    let reader = open(path)?;
    let schema = reader.metadata().file_metadata().schema();
    let mut rows = guarded(path, || reader.get_row_iter(None))?;
    let mut number = 0;
    while let Some(row) = guarded(path, || rows.next().transpose())? {
        number += 1;
        each(number, row_of(columns_of(row, schema)).map_err(|e| Error::line(path, number, &e).with_source(e))?)?;
    }
    Ok(())
}

/// The names of the columns.
pub(super) fn columns(path: &Path) -> Result<Vec<String>> {
    let reader = open(path)?;
    Ok(reader.metadata().file_metadata().schema().get_fields().iter().map(|field| field.name().to_owned()).collect())
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = open_file(path)?;
    guarded(path, || SerializedFileReader::new(file))
}

/// The library panics on some damaged files.
fn guarded<T>(path: &Path, call: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    match guard::guarded(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Error::format(path, format!("not a readable Parquet file: {e}")).with_source(e)),
        Err(_) => Err(Error::format(path, "not a readable Parquet file: it is damaged or of an unsupported type")),
    }
}

fn columns_of(row: Row, of: &Type) -> Vec<(String, Cell)> {
    let cell_of = |(name, field): (String, Field)| {
        let value = cell(field, child(of, &name), &name);
        (name, value)
    };
    row.into_columns().into_iter().map(cell_of).collect()
}

/// The value of a column, of which `of` is the type, or that of its elements.
fn cell(field: Field, of: &Type, column: &str) -> Cell {
    let logical = of.get_basic_info().logical_type_ref();
    let unusable = |what: &str| Cell::Unusable(format!("column `{column}` is {what}; write it as text"));
    match field {
        Field::Null => Cell::Null,
        // The library knows no time in nanoseconds.
        Field::Int(_) | Field::Long(_) if matches!(logical, Some(LogicalType::Timestamp { .. })) => {
            unusable("a timestamp")
        }
        Field::Int(_) | Field::Long(_) if matches!(logical, Some(LogicalType::Time { .. })) => unusable("a time"),
        Field::Bool(value) => Cell::Bool(value),
        Field::Byte(value) => Cell::Int(value.into()),
        Field::Short(value) => Cell::Int(value.into()),
        Field::Int(value) => Cell::Int(value.into()),
        Field::Long(value) => Cell::Int(value),
        Field::UByte(value) => Cell::UInt(value.into()),
        Field::UShort(value) => Cell::UInt(value.into()),
        Field::UInt(value) => Cell::UInt(value.into()),
        Field::ULong(value) => Cell::UInt(value),
        Field::Float16(value) => Cell::Float(value.into()),
        Field::Float(value) => Cell::Float(value.into()),
        Field::Double(value) => Cell::Float(value),
        Field::Decimal(value) => decimal(&value).unwrap_or_else(|| unusable("a decimal of more than 38 digits")),
        Field::Str(text) if of.get_basic_info().converted_type() == ConvertedType::JSON => {
            serde_json::from_str(&text).map_or_else(|_| unusable("not the JSON that its type promises"), Cell::Json)
        }
        Field::Str(text) => Cell::Text(text),
        Field::Bytes(bytes) if matches!(logical, Some(LogicalType::Uuid)) => Cell::Text(uuid(bytes.data())),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => unusable("binary and not UTF-8"),
        },
        Field::Date(_) => unusable("a date"),
        Field::TimeMillis(_) | Field::TimeMicros(_) => unusable("a time"),
        Field::TimestampMillis(_) | Field::TimestampMicros(_) => unusable("a timestamp"),
        Field::Group(row) => Cell::Map(columns_of(row, of)),
        Field::ListInternal(list) => {
            let of = element_of(of);
            Cell::List(list.elements().iter().map(|element| cell(element.clone(), of, column)).collect())
        }
        Field::MapInternal(_) => unusable("a map"),
    }
}

/// The type of a group's field. A damaged file may have none.
fn child<'a>(group: &'a Type, name: &str) -> &'a Type {
    let fields = if group.is_group() { group.get_fields() } else { &[] };
    fields.iter().find(|field| field.name() == name).map_or(group, |field| field)
}

/// The type of a list's elements: below the repeated group, unless that is the element itself.
fn element_of(list: &Type) -> &Type {
    if list.is_primitive() {
        return list;
    }
    let [repeated] = list.get_fields() else { return list };
    match repeated.is_group() {
        true if repeated.get_fields().len() == 1 => &repeated.get_fields()[0],
        _ => repeated,
    }
}

/// A decimal: an integer if it is whole, so that it serves as an id.
fn decimal(value: &Decimal) -> Option<Cell> {
    let bytes = value.data();
    let fill = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [fill; 16];
    whole[16usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    let (unscaled, scale) = (i128::from_be_bytes(whole), u32::try_from(value.scale()).ok()?);
    let unit = 10i128.checked_pow(scale)?;
    Some(match i64::try_from(unscaled / unit) {
        Ok(integer) if unscaled % unit == 0 => Cell::Int(integer),
        _ => Cell::Float(unscaled as f64 / unit as f64),
    })
}

/// The text form of a UUID.
fn uuid(bytes: &[u8]) -> String {
    let hex = care_core::files::hex(bytes);
    let groups = [0..8, 8..12, 12..16, 16..20, 20..hex.len()];
    groups.map(|group| hex.get(group).unwrap_or_default().to_owned()).join("-")
}
