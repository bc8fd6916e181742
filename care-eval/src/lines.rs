//! Text files of one record a line: reading, splitting, parsing and writing, with errors that say
//! where.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Calls `visit` with each line that is not blank, without its line ending; errors carry the path
/// and the line.
pub(crate) fn read_lines(path: &Path, mut visit: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io("open", path, e))?);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let unreadable = |e: io::Error| Error::new(ErrorKind::Io, "cannot read the line").caused_by(e).at(path, number);
        if reader.read_line(&mut line).map_err(unreadable)? == 0 {
            break;
        }
        if !line.trim().is_empty() {
            visit(line.trim_end_matches(['\n', '\r'])).map_err(|e| e.at(path, number))?;
        }
    }
    Ok(())
}

/// Writes each line; errors carry the path and the line. On an error the file is left incomplete.
pub(crate) fn write_lines(path: &Path, lines: impl Iterator<Item = Result<String>>) -> Result<()> {
    let failed = |e| Error::io("write", path, e);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    for (line, number) in lines.zip(1..) {
        writeln!(out, "{}", line.map_err(|e| e.at(path, number))?).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// The fields of a line, which must be exactly the named columns, none of them empty.
pub(crate) fn columns<'a, const N: usize>(
    mut fields: impl Iterator<Item = &'a str>,
    names: [&str; N],
) -> Result<[&'a str; N]> {
    let mut row = [""; N];
    for (field, name) in row.iter_mut().zip(names) {
        *field = fields
            .next()
            .filter(|field| !field.is_empty())
            .ok_or_else(|| malformed(format!("column {name:?} is missing; a line is {:?}", names.join(" "))))?;
    }
    match fields.next() {
        None => Ok(row),
        Some(extra) => Err(malformed(format!("unexpected column {extra:?}; a line is {:?}", names.join(" ")))),
    }
}

/// The value of a field; `expected` says what it should be, such as "a number".
pub(crate) fn parse<T: FromStr>(name: &str, field: &str, expected: &str) -> Result<T> {
    field.parse().map_err(|_| malformed(format!("{name} {field:?} is not {expected}")))
}

/// The id, if it can be a field of a file whose fields may not hold `separator`.
pub(crate) fn writable<'a>(id: &'a str, format: &str, separator: fn(char) -> bool) -> Result<&'a str> {
    if id.is_empty() || id.contains(separator) {
        return Err(malformed(format!("the id {id:?} has no form in {format}")));
    }
    Ok(id)
}

pub(crate) fn malformed(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}
