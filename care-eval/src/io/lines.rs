//! Text files with one record per line: reading, splitting, parsing and writing, with errors that name the line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::str::{self, FromStr};

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memchr_iter, memrchr};
use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};

/// The beginning of a git-lfs pointer, which has fewer than 1024 bytes.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Opens an input, which may be a pipe. A name that ends in `.gz` is unpacked while reading; a git-lfs pointer is refused.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let failed = |e| Error::io("open", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && (POINTER.len() as u64..1024).contains(&metadata.len()) {
        let mut start = [0; POINTER.len()];
        file.read_exact(&mut start).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
        if start == POINTER {
            let problem = "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`";
            return Err(Error::format(problem).at(path, 1));
        }
    }
    match path.extension().is_some_and(|extension| extension == "gz") {
        true => Ok(Box::new(MultiGzDecoder::new(file))),
        false => Ok(Box::new(file)),
    }
}

/// Calls `visit` with each line that is not blank, without its line ending. Errors get the path and the line.
pub(super) fn read_lines(path: &Path, mut visit: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|e| Error::io("read", path, e))? == 0 {
            break;
        }
        let line = text_of(&line, number).map_err(|e| e.at(path, number))?;
        if !line.trim().is_empty() {
            visit(line).map_err(|e| e.at(path, number))?;
        }
    }
    Ok(())
}

/// The text of a line without its line ending and, at the start of a file, without a byte-order mark.
fn text_of(line: &[u8], number: usize) -> Result<&str> {
    if number == 1 && matches!(line, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]) {
        return Err(Error::format("the text is UTF-16; convert it to UTF-8"));
    }
    let line = str::from_utf8(line).map_err(|e| Error::new(ErrorKind::Io, "cannot read the line").caused_by(e))?;
    let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
    Ok(line.trim_end_matches(['\n', '\r']))
}

/// Bytes to read before parsing.
const BLOCK: usize = 16 << 20;
/// Minimum bytes per parallel task.
const PIECE: usize = 64 << 10;

/// Calls `parse` with the number and the text of each line that is not blank, in parallel. Each piece of the file
/// collects its lines in a `T`, which `take` receives in file order.
///
/// `parse` and `take` add path and line to their own errors, with [`Error::at`].
pub(super) fn read_lines_in_parallel<T: Default + Send>(
    path: &Path,
    parse: impl Fn(&mut T, usize, &str) -> Result<()> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut file = open(path)?;
    let (mut block, mut number) = (Vec::new(), 1);
    loop {
        let read = file.by_ref().take(BLOCK as u64).read_to_end(&mut block).map_err(|e| Error::io("read", path, e))?;
        // An incomplete last line waits for the next block.
        let whole = if read == 0 { block.len() } else { memrchr(b'\n', &block).map_or(0, |end| end + 1) };
        let pieces = pieces(&block[..whole], &mut number);
        let parsed: Vec<Result<T>> = pieces
            .into_par_iter()
            .map(|(first, piece)| {
                let mut gathered = T::default();
                for (line, number) in piece.split_inclusive(|&byte| byte == b'\n').zip(first..) {
                    let line = text_of(line, number).map_err(|e| e.at(path, number))?;
                    if !line.trim().is_empty() {
                        parse(&mut gathered, number, line)?;
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

/// Cuts lines into pieces, each with the number of its first line. Advances `number` to the next line after them.
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

/// Writes each line. Errors get the path and the line; the file is then incomplete.
pub(super) fn write_lines(path: &Path, lines: impl Iterator<Item = Result<String>>) -> Result<()> {
    let failed = |e| Error::io("write", path, e);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    for (line, number) in lines.zip(1..) {
        writeln!(out, "{}", line.map_err(|e| e.at(path, number))?).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// The fields of a line: exactly the named columns, none of them empty.
pub(super) fn columns<'a, const N: usize>(
    fields: impl Iterator<Item = &'a str>,
    names: [&str; N],
) -> Result<[&'a str; N]> {
    let mut row = [""; N];
    fill(&mut row, fields, &names)?;
    Ok(row)
}

/// [`columns`] of any number.
pub(super) fn fill<'a, S: AsRef<str>>(
    row: &mut [&'a str],
    mut fields: impl Iterator<Item = &'a str>,
    names: &[S],
) -> Result<()> {
    let line = || names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
    for (field, name) in row.iter_mut().zip(names) {
        let name = name.as_ref();
        *field = fields
            .next()
            .filter(|field| !field.is_empty())
            .ok_or_else(|| Error::format(format!("column {name:?} is missing; a line is {:?}", line())).of(name))?;
    }
    match fields.next() {
        None => Ok(()),
        Some(extra) => Err(Error::format(format!("unexpected column {extra:?}; a line is {:?}", line()))),
    }
}

/// A grade: a whole number, which some writers store as a float.
pub(super) fn parse_grade(name: &str, field: &str) -> Result<i32> {
    let field = field.trim();
    match field.parse().ok().and_then(whole) {
        Some(grade) => Ok(grade),
        None => parse(name, field, "an integer"),
    }
}

/// The grade that a float stands for, if it is whole.
pub(super) fn whole(number: f64) -> Option<i32> {
    (number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX)).then_some(number as i32)
}

/// The value of a field; `expected` describes it in the message, e.g. "an integer".
pub(super) fn parse<T: FromStr>(name: &str, field: &str, expected: &str) -> Result<T> {
    field.parse().map_err(|_| Error::format(format!("{name} {field:?} is not {expected}")).of(name))
}

/// The id, if it is not empty and contains no separator of the format.
pub(super) fn writable<'a>(id: &'a str, format: &str, separator: fn(char) -> bool) -> Result<&'a str> {
    if id.is_empty() || id.contains(separator) {
        return Err(Error::format(format!("the id {id:?} cannot be represented in {format}")));
    }
    Ok(id)
}
