//! The rows of files: read once for their keys, and again for their texts.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use care_core::{Error, Result};
use foldhash::quality::FixedState;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::field::{RowText, TextField, positives};
use super::options::{DedupOptions, Keep};
use crate::chunk::{Line, Place, for_each_chunk};

/// What is kept in memory of the rows of some files: 44 bytes each.
#[derive(Debug, Default)]
pub(super) struct Rows {
    files: Vec<PathBuf>,
    /// Where each row is.
    places: Vec<Place>,
    /// The beginning of the SHA-256 of each row's form; 0 if there is nothing to compare.
    pub(super) keys: Vec<u128>,
    /// What the rule ranks each row by, the highest first.
    pub(super) ranks: Vec<u32>,
    /// A hash of each line, by which a changed file is recognised.
    lines: Vec<u64>,
    /// Lines that are not blank, those that are no rows included.
    seen: usize,
}

/// What is known of a row after the first look.
struct Facts {
    key: u128,
    rank: u32,
    line: u64,
}

impl Rows {
    /// Reads all rows. Those that cannot be read go to `bad`, or are an error.
    pub(super) fn scan(files: &[PathBuf], options: &DedupOptions, bad: &mut Vec<Error>) -> Result<Self> {
        let mut rows = Self { files: files.to_vec(), ..Self::default() };
        for_each_chunk(files, &mut |chunk| {
            rows.seen += chunk.len();
            let read = |line: Line| {
                let path = &files[line.place.file as usize];
                let facts = line.text.and_then(|text| facts(path, line.place, &text, options));
                (line.place, facts)
            };
            for (place, facts) in chunk.into_par_iter().map(read).collect::<Vec<_>>() {
                match facts {
                    Ok(facts) => rows.push(place, facts),
                    Err(error) if options.skip_bad => bad.push(error),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        u32::try_from(rows.len()).map(|_| rows).map_err(|_| Error::setting("rows", "above 2^32", "fewer"))
    }

    fn push(&mut self, place: Place, facts: Facts) {
        self.places.push(place);
        self.keys.push(facts.key);
        self.ranks.push(facts.rank);
        self.lines.push(facts.line);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The number of the first row of a file or of one after it.
    pub(super) fn first_of_file(&self, file: usize) -> usize {
        self.places.partition_point(|place| (place.file as usize) < file)
    }

    /// The file and the line of a row.
    pub(super) fn place(&self, row: usize) -> (&Path, u32) {
        let Place { file, line } = self.places[row];
        (&self.files[file as usize], line)
    }

    /// Calls `each` with the wanted rows' numbers and texts, in order.
    pub(super) fn for_each_text(
        &self,
        field: &TextField,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        each: &mut dyn FnMut(usize, RowText) -> Result<()>,
    ) -> Result<()> {
        self.for_each_again(&mut |chunk| {
            let read = |(row, line): (usize, String)| {
                let (path, number) = self.place(row);
                let text = field.read(&line).map_err(|problem| Error::line(path, number as usize, problem));
                text.map(|text| (row, text))
            };
            let wanted = chunk.into_par_iter().filter(|(row, _)| wanted(*row));
            wanted
                .map(read)
                .collect::<Vec<_>>()
                .into_iter()
                .try_for_each(|read| read.and_then(|(row, text)| each(row, text)))
        })
    }

    /// Calls `each` with the rows' numbers and lines, in order.
    ///
    /// # Errors
    /// If a file is not what it was when it was scanned.
    pub(super) fn for_each_again(&self, each: &mut dyn FnMut(Vec<(usize, String)>) -> Result<()>) -> Result<()> {
        let (mut next, mut seen) = (0, 0);
        let changed =
            |file: u32| Error::format(&self.files[file as usize], "the file has changed since it was first read");
        for_each_chunk(&self.files, &mut |chunk| {
            let mut rows = Vec::with_capacity(chunk.len());
            seen += chunk.len();
            for line in chunk {
                match (self.places.get(next), line.text) {
                    (Some(place), Ok(text)) if *place == line.place => {
                        if hash(&text) != self.lines[next] {
                            return Err(changed(line.place.file));
                        }
                        rows.push((next, text));
                        next += 1;
                    }
                    // A line before the next row: it could not be read the first time either.
                    (place, _) if place.is_none_or(|place| line.place < *place) => {}
                    _ => return Err(changed(line.place.file)),
                }
            }
            each(rows)
        })?;
        match (self.places.get(next), self.files.len().checked_sub(1)) {
            (Some(place), _) => Err(changed(place.file)),
            (None, Some(last)) if seen != self.seen => Err(changed(last as u32)),
            (None, _) => Ok(()),
        }
    }
}

fn facts(path: &Path, place: Place, line: &str, options: &DedupOptions) -> Result<Facts> {
    let text = options.field.read(line).map_err(|problem| Error::line(path, place.line as usize, problem))?;
    let rank = match options.keep {
        Keep::First => 0,
        Keep::Longest => text.form.chars().count(),
        Keep::MostPositives => positives(line),
    };
    Ok(Facts { key: key(&text.form), rank: u32::try_from(rank).unwrap_or(u32::MAX), line: hash(line) })
}

/// The first 128 bits of the SHA-256 of a form; 0 stands for nothing to compare.
fn key(form: &str) -> u128 {
    match (form, Sha256::digest(form).first_chunk()) {
        ("", _) | (_, None) => 0,
        (_, Some(start)) => u128::from_le_bytes(*start),
    }
}

fn hash(line: &str) -> u64 {
    let mut hasher = FixedState::with_seed(2).build_hasher();
    hasher.write(line.as_bytes());
    hasher.finish()
}
