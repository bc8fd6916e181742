//! Text files of one record a line: reading, splitting, parsing and writing, with errors that say
//! where.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::str::{self, FromStr};

use memchr::{memchr, memchr_iter, memrchr};
use rayon::prelude::*;

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
        let line = without_mark(&line, number);
        if !line.trim().is_empty() {
            visit(line.trim_end_matches(['\n', '\r'])).map_err(|e| e.at(path, number))?;
        }
    }
    Ok(())
}

/// The first line of some files begins with a byte-order mark, which is no part of its text.
fn without_mark(line: &str, number: usize) -> &str {
    if number == 1 { line.trim_start_matches('\u{feff}') } else { line }
}

/// Bytes that are read before their lines are parsed.
const BLOCK: usize = 16 << 20;
/// Bytes that one task parses at least.
const PIECE: usize = 64 << 10;

/// Calls `parse` with the number and the text of each line that is not blank, in parallel: each
/// piece of the file gathers what its lines say in a `T`, and `take` gets them in the file's order.
///
/// Errors of `parse` and `take` name the path and the line themselves, by [`Error::at`].
pub(crate) fn read_lines_in_parallel<T: Default + Send>(
    path: &Path,
    parse: impl Fn(&mut T, usize, &str) -> Result<()> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let (mut block, mut number) = (Vec::new(), 1);
    loop {
        let read = (&file).take(BLOCK as u64).read_to_end(&mut block).map_err(|e| Error::io("read", path, e))?;
        // A line that is not complete yet waits for the next block.
        let whole = if read == 0 { block.len() } else { memrchr(b'\n', &block).map_or(0, |end| end + 1) };
        let pieces = pieces(&block[..whole], &mut number);
        let parsed: Vec<Result<T>> = pieces
            .into_par_iter()
            .map(|(first, piece)| {
                let mut gathered = T::default();
                for (line, number) in piece.split_inclusive(|&byte| byte == b'\n').zip(first..) {
                    let line = str::from_utf8(line)
                        .map_err(|e| Error::new(ErrorKind::Io, "cannot read the line").caused_by(e).at(path, number))?;
                    let line = without_mark(line, number);
                    if !line.trim().is_empty() {
                        parse(&mut gathered, number, line.trim_end_matches(['\n', '\r']))?;
                    }
                }
                Ok(gathered)
            })
            .collect();
        parsed.into_iter().try_for_each(|piece| take(piece?))?;
        if read == 0 {
            return Ok(());
        }
        block.drain(..whole);
    }
}

/// Cuts lines into pieces, each with the number of its first line; `number` is that of the next.
fn pieces<'a>(mut lines: &'a [u8], number: &mut usize) -> Vec<(usize, &'a [u8])> {
    let mut pieces = Vec::new();
    let size = PIECE.max(lines.len() / (8 * rayon::current_num_threads()));
    while !lines.is_empty() {
        let end = lines.get(size..).and_then(|rest| memchr(b'\n', rest)).map_or(lines.len(), |end| size + end + 1);
        let (piece, rest) = lines.split_at(end);
        pieces.push((*number, piece));
        *number += memchr_iter(b'\n', piece).count();
        lines = rest;
    }
    pieces
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
