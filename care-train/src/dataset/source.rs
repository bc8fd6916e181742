//! Rows from one origin: in memory, or in a file that is read batch by batch.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use care_core::files::open_file;
use care_core::lines::text_of;
use care_core::{Error, ErrorKind, Result};
use care_data::rows::{RowType, TrainingExample, for_each_example};
use sha2::{Digest, Sha256};

use super::{AnswerKeys, text_key};

/// Rows from one origin. A batch never mixes sources, so that a query's in-batch negatives are of its own kind.
///
/// Of a file only positions and hashes are in memory, about 100 bytes per row; texts are read when their batch comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    name: String,
    texts: Texts,
    /// Line number of each row, if the source is a file.
    lines: Option<Vec<u32>>,
    facts: Vec<RowFacts>,
    /// The known answers of each row's query.
    answers: AnswerKeys,
    /// Rows whose `neg` holds one of their `pos`: the place of the first, and how many more there are.
    mistaken: Option<(String, usize)>,
    /// SHA-256 over all rows, in order.
    digest: [u8; 32],
}

#[derive(Debug, Clone, PartialEq)]
enum Texts {
    Memory(Vec<TrainingExample>),
    File {
        path: PathBuf,
        /// Byte offset and hash of each row's line.
        lines: Vec<(u64, u32)>,
    },
}

/// What is known of a row without its texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowFacts {
    pub(crate) row_type: RowType,
    pub(crate) negatives: u32,
    positives_are_scored: bool,
    negatives_are_scored: bool,
    has_prompt: bool,
    is_plain: bool,
}

/// What a stage requires of every row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowNeeds {
    pub(crate) group_size: usize,
    pub(crate) teacher_scores: bool,
    /// Whether a query needs positives other than itself.
    pub(crate) labels: bool,
}

impl Source {
    /// A source of rows in memory.
    ///
    /// # Errors
    /// Returns an error if there are no rows, or if one has no positive, an empty text, or scores that do not match
    /// its texts; the message names the row's index.
    pub fn new(name: impl Into<String>, examples: Vec<TrainingExample>) -> Result<Self> {
        let mut builder = Builder::new(name.into());
        for (row, example) in examples.into_iter().enumerate() {
            let name = builder.name.clone();
            let place = || format!("{name}, row {row}");
            builder.add(&place, &example).map_err(|problem| misplaced(&place(), &problem))?;
            builder.kept.push(example);
        }
        builder.finish(None, None)
    }

    /// A source of the rows of a JSONL file, which are checked here and read again with each batch. A file whose name
    /// ends in `.gz` has no positions, so its rows are kept in memory.
    ///
    /// # Errors
    /// As [`Source::new`], except that the message names the line; also if the file cannot be read, or a line is no row.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let (mut builder, mut numbers) = (Builder::new(path.display().to_string()), Vec::new());
        for_each_example(path, &mut |number, example| {
            let place = || format!("{}:{number}", path.display());
            builder.add(&place, &example).map_err(|problem| Error::line(path, number, problem))?;
            if is_packed {
                builder.kept.push(example);
            }
            numbers.push(u32::try_from(number).unwrap_or(u32::MAX));
            Ok(())
        })?;
        let texts = match is_packed {
            true => None,
            false => Some(Texts::File { path: path.to_owned(), lines: positions(path, &numbers)? }),
        };
        builder.finish(Some(numbers), texts)
    }

    /// Checks that every row meets the requirements of a stage.
    ///
    /// # Errors
    /// Returns an error if a row lacks hard negatives, scores or a positive other than itself; the message names its
    /// line.
    pub(crate) fn require(&self, needs: RowNeeds) -> Result<()> {
        let group = needs.group_size;
        let problem = |row: &RowFacts| {
            if needs.labels && row.is_plain {
                return Some("a text alone, which only query-alignment stages train on; give `query` and `pos`".into());
            }
            if group > 1 && row.negatives == 0 {
                let needed = format!("`neg` is empty, but a group of {group} needs hard negatives");
                return Some(format!("{needed}; set `group_size = 1` to use in-batch negatives only"));
            }
            if group < 2 && !row.row_type.has_in_batch_negatives() {
                return Some("rows of this `type` have no in-batch negatives; set `group_size` to at least 2".into());
            }
            if needs.teacher_scores && !row.positives_are_scored {
                return Some("`pos_scores` is missing, but the distillation loss needs it".into());
            }
            if needs.teacher_scores && !row.negatives_are_scored {
                return Some("`neg_scores` is missing, but the distillation loss needs it".into());
            }
            None
        };
        for (row, facts) in self.facts.iter().enumerate() {
            if let Some(problem) = problem(facts) {
                return Err(misplaced(&self.place(row), &problem));
            }
        }
        Ok(())
    }

    fn place(&self, row: usize) -> String {
        match &self.lines {
            Some(lines) => format!("{}:{}", self.name, lines[row]),
            None => format!("{}, row {row}", self.name),
        }
    }

    /// The rows of these indices, in their order.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has changed since it was opened.
    ///
    /// # Panics
    /// Panics if there is no row of such an index.
    pub fn read(&self, rows: &[usize]) -> Result<Vec<TrainingExample>> {
        let (path, lines) = match &self.texts {
            Texts::Memory(examples) => return Ok(rows.iter().map(|&row| examples[row].clone()).collect()),
            Texts::File { path, lines } => (path, lines),
        };
        let failed = |e| Error::io("read", path, e);
        let mut file = BufReader::new(File::open(path).map_err(|e| Error::io("open", path, e))?);
        let mut line = Vec::new();
        let read = |&row: &usize| {
            let (offset, hash) = lines[row];
            line.clear();
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            file.read_until(b'\n', &mut line).map_err(failed)?;
            // Any line may be the first, which has a byte-order mark.
            let text = text_of(&line, 1).ok().filter(|_| line_hash(&line) == hash);
            text.and_then(|text| TrainingExample::from_json(text).ok())
                .ok_or_else(|| Error::format(path, "the file has changed since it was opened"))
        };
        rows.iter().map(read).collect()
    }

    /// Number of rows, >= 1.
    pub fn row_count(&self) -> usize {
        self.facts.len()
    }

    /// The name of the source; for a file, its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of each row without its texts.
    pub(crate) fn facts(&self) -> &[RowFacts] {
        &self.facts
    }

    /// The known answers of each row's query.
    pub(crate) fn answers(&self) -> &AnswerKeys {
        &self.answers
    }

    /// A SHA-256 over all rows, in order.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Number of rows with a task prompt.
    pub(crate) fn prompted(&self) -> usize {
        self.facts.iter().filter(|facts| facts.has_prompt).count()
    }

    /// What is odd about the rows, though they can be used; each message names file and line.
    pub fn warnings(&self) -> Vec<String> {
        let warn = |(place, others): &(String, usize)| {
            let more = match others {
                0 => String::new(),
                1 => ", nor are such texts of 1 other row".into(),
                _ => format!(", nor are such texts of {others} other rows"),
            };
            format!("{place} is in `pos` too; it is not used as a negative{more}")
        };
        self.mistaken.iter().map(warn).collect()
    }
}

fn misplaced(place: &str, problem: &str) -> Error {
    Error::new(ErrorKind::Format, format!("{place}: {problem}"))
}

/// A source whose rows are being added.
struct Builder {
    name: String,
    facts: Vec<RowFacts>,
    answers: AnswerKeys,
    mistaken: Option<(String, usize)>,
    digest: Sha256,
    /// The rows that stay in memory.
    kept: Vec<TrainingExample>,
}

impl Builder {
    fn new(name: String) -> Self {
        let (facts, answers, kept) = (Vec::new(), AnswerKeys::default(), Vec::new());
        Self { name, facts, answers, mistaken: None, digest: Sha256::new(), kept }
    }

    /// Adds all that is known of a row except its texts.
    ///
    /// # Errors
    /// Returns what is wrong with the row, as text.
    fn add(&mut self, place: &dyn Fn() -> String, example: &TrainingExample) -> std::result::Result<(), String> {
        example.check()?;
        let scored = |texts: &[String], scores: &[f32]| texts.len() == scores.len();
        self.facts.push(RowFacts {
            row_type: example.row_type,
            negatives: u32::try_from(example.negatives.len()).unwrap_or(u32::MAX),
            positives_are_scored: scored(&example.positives, &example.positive_scores),
            negatives_are_scored: scored(&example.negatives, &example.negative_scores),
            has_prompt: example.prompt.is_some(),
            is_plain: example.is_plain,
        });
        self.answers.push(&example.query, &example.positives);
        let positives = self.answers.positives(self.facts.len() - 1);
        if let Some(negative) = example.negatives.iter().position(|text| positives.contains(&text_key(text))) {
            match &mut self.mistaken {
                Some((_, others)) => *others += 1,
                none => *none = Some((format!("{}: `neg[{negative}]`", place()), 0)),
            }
        }
        digest(&mut self.digest, example);
        Ok(())
    }

    /// The source, with the kept rows if there are no other `texts`.
    fn finish(mut self, lines: Option<Vec<u32>>, texts: Option<Texts>) -> Result<Source> {
        if self.facts.is_empty() {
            return Err(misplaced(&self.name, "no training rows"));
        }
        self.answers.join();
        self.facts.shrink_to_fit();
        Ok(Source {
            name: self.name,
            texts: texts.unwrap_or(Texts::Memory(self.kept)),
            lines,
            facts: self.facts,
            answers: self.answers,
            mistaken: self.mistaken,
            digest: self.digest.finalize().into(),
        })
    }
}

fn digest(digest: &mut Sha256, example: &TrainingExample) {
    let text = |digest: &mut Sha256, text: &str| {
        digest.update(text.len().to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(digest, &example.query);
    for (texts, scores) in
        [(&example.positives, &example.positive_scores), (&example.negatives, &example.negative_scores)]
    {
        digest.update(texts.len().to_le_bytes());
        texts.iter().for_each(|one| text(digest, one));
        digest.update(scores.len().to_le_bytes());
        scores.iter().for_each(|score| digest.update(score.to_le_bytes()));
    }
    text(digest, &format!("{:?} {:?}", example.prompt, example.row_type));
}

/// The byte offset and the hash of the lines with these numbers, which ascend and count from 1.
fn positions(path: &Path, numbers: &[u32]) -> Result<Vec<(u64, u32)>> {
    let mut file = BufReader::with_capacity(1 << 20, open_file(path)?);
    let (mut found, mut line, mut offset) = (Vec::with_capacity(numbers.len()), Vec::new(), 0);
    for number in 1u32.. {
        line.clear();
        let length = file.read_until(b'\n', &mut line).map_err(|e| Error::io("read", path, e))?;
        if length == 0 || found.len() == numbers.len() {
            break;
        }
        if numbers[found.len()] == number {
            found.push((offset, line_hash(&line)));
        }
        offset += length as u64;
    }
    match found.len() == numbers.len() {
        true => Ok(found),
        false => Err(Error::format(path, "the file has changed since it was opened")),
    }
}

fn line_hash(line: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish() as u32
}
