//! Reading rows and counting.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use care_core::{Error, Result};
use foldhash::quality::FixedState;
use rayon::prelude::*;
use serde::Serialize;

use super::distinct::Distinct;
use super::distribution::{Distribution, Summary};
use crate::chunk::for_each_chunk;
use crate::normalise::normalise;
use crate::rows::{TrainingExample, for_each_example};
use crate::table::is_jsonl;

/// Rows of a table that are counted at once.
const GROUP: usize = 4096;

/// What is in files of training rows.
///
/// Texts are distinct, and equal to each other, in their [normalised](crate::normalise()) form, of which 64-bit hashes are
/// compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RowStats {
    /// Rows that were read.
    pub rows: usize,
    /// Rows that could not be read.
    pub bad: usize,
    /// Rows with a text alone, which is its own positive.
    pub plain: usize,
    /// Rows whose query and positives are those of an earlier row.
    pub duplicate_rows: usize,
    /// Rows whose query is that of an earlier row.
    pub duplicate_queries: usize,
    /// Negatives that are positives of their row.
    pub positives_as_negatives: usize,
    /// Negatives that are the query of their row.
    pub queries_as_negatives: usize,
    /// Negatives that their row has already.
    pub repeated_negatives: usize,
    /// Rows with scores.
    pub scored_rows: usize,
    /// Positives of a row.
    pub positives_per_row: Summary,
    /// Negatives of a row.
    pub negatives_per_row: Summary,
    /// The queries.
    pub queries: TextStats,
    /// The positives.
    pub positives: TextStats,
    /// The negatives.
    pub negatives: TextStats,
}

/// Texts of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TextStats {
    /// Number of texts.
    pub count: usize,
    /// Number of distinct texts.
    pub distinct: usize,
    /// Texts without a character that is no white space.
    pub empty: usize,
    /// Lengths in characters.
    pub characters: Summary,
    /// Share of Han characters among letters and digits, 0 to 1.
    pub chinese: f64,
}

/// Counts the rows of files. Each is read once, and of a text only a hash is kept: 8 bytes for every distinct one.
///
/// Rows have any form that [`for_each_example`] reads. They are not checked beyond it: empty texts are counted. A row that
/// cannot be read goes to `bad`, which returns an error to stop.
///
/// # Errors
/// If a file cannot be read, or `bad` fails.
pub fn collect_stats(files: &[PathBuf], bad: &mut dyn FnMut(Error) -> Result<()>) -> Result<RowStats> {
    let mut counter = Counter::default();
    for path in files {
        let mut add = |rows: Vec<Result<RowFacts>>| {
            rows.into_iter().try_for_each(|facts| match facts {
                Ok(facts) => {
                    counter.add(&facts);
                    Ok(())
                }
                Err(error) => {
                    counter.stats.bad += 1;
                    bad(error)
                }
            })
        };
        if is_jsonl(path) { of_lines(path, &mut add)? } else { of_table(path, &mut add)? }
    }
    Ok(counter.finish())
}

fn of_lines(path: &Path, add: &mut dyn FnMut(Vec<Result<RowFacts>>) -> Result<()>) -> Result<()> {
    for_each_chunk(&[path.to_owned()], &mut |chunk| {
        let facts = chunk.into_par_iter().map(|line| {
            let row = TrainingExample::from_json(&line.text?);
            row.map(|row| RowFacts::of(&row)).map_err(|problem| Error::line(path, line.place.line as usize, problem))
        });
        add(facts.collect())
    })
}

fn of_table(path: &Path, add: &mut dyn FnMut(Vec<Result<RowFacts>>) -> Result<()>) -> Result<()> {
    let mut group = Vec::new();
    let facts = |rows: &[TrainingExample]| rows.par_iter().map(|row| Ok(RowFacts::of(row))).collect();
    for_each_example(path, &mut |_, row| {
        group.push(row);
        if group.len() == GROUP {
            add(facts(&group))?;
            group.clear();
        }
        Ok(())
    })?;
    add(facts(&group))
}

/// What is counted of a row.
struct RowFacts {
    query: TextFacts,
    positives: Vec<TextFacts>,
    negatives: Vec<TextFacts>,
    is_plain: bool,
    is_scored: bool,
}

#[derive(Clone, Copy)]
struct TextFacts {
    hash: u64,
    characters: usize,
    letters: u32,
    han: u32,
    is_empty: bool,
}

impl RowFacts {
    fn of(row: &TrainingExample) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| TextFacts::of(text)).collect();
        Self {
            query: TextFacts::of(&row.query),
            positives: all(&row.positives),
            negatives: all(&row.negatives),
            is_plain: row.is_plain,
            is_scored: !row.positive_scores.is_empty() || !row.negative_scores.is_empty(),
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = FixedState::with_seed(4).build_hasher();
        hasher.write_u64(self.query.hash);
        self.positives.iter().for_each(|text| hasher.write_u64(text.hash));
        hasher.finish()
    }
}

impl TextFacts {
    fn of(text: &str) -> Self {
        let mut hasher = FixedState::with_seed(3).build_hasher();
        hasher.write(normalise(text).as_bytes());
        let (mut characters, mut letters, mut han) = (0, 0, 0);
        for character in text.chars() {
            characters += 1;
            letters += u32::from(character.is_alphanumeric());
            han += u32::from(is_han(character));
        }
        Self { hash: hasher.finish(), characters, letters, han, is_empty: text.trim().is_empty() }
    }
}

/// Whether a character is a Han ideograph, of the unified ones, their extensions or those for compatibility.
fn is_han(character: char) -> bool {
    matches!(character,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[derive(Default)]
struct Counter {
    stats: RowStats,
    rows: Distinct,
    positives_per_row: Distribution,
    negatives_per_row: Distribution,
    queries: TextCounter,
    positives: TextCounter,
    negatives: TextCounter,
}

#[derive(Default)]
struct TextCounter {
    stats: TextStats,
    distinct: Distinct,
    characters: Distribution,
    letters: u64,
    han: u64,
}

impl Counter {
    fn add(&mut self, row: &RowFacts) {
        self.stats.rows += 1;
        self.stats.plain += usize::from(row.is_plain);
        self.stats.scored_rows += usize::from(row.is_scored);
        self.rows.add(row.hash());
        self.queries.add(&row.query);
        row.positives.iter().for_each(|text| self.positives.add(text));
        self.positives_per_row.add(row.positives.len());
        self.negatives_per_row.add(row.negatives.len());
        let is = |texts: &[TextFacts], hash| texts.iter().any(|text| text.hash == hash);
        for (at, negative) in row.negatives.iter().enumerate() {
            self.negatives.add(negative);
            self.stats.positives_as_negatives += usize::from(is(&row.positives, negative.hash));
            self.stats.queries_as_negatives += usize::from(row.query.hash == negative.hash);
            self.stats.repeated_negatives += usize::from(is(&row.negatives[..at], negative.hash));
        }
    }

    fn finish(mut self) -> RowStats {
        let distinct_rows = self.rows.count();
        let queries = self.queries.finish();
        RowStats {
            duplicate_rows: self.stats.rows - distinct_rows,
            duplicate_queries: self.stats.rows - queries.distinct,
            positives_per_row: self.positives_per_row.summary(),
            negatives_per_row: self.negatives_per_row.summary(),
            queries,
            positives: self.positives.finish(),
            negatives: self.negatives.finish(),
            ..self.stats
        }
    }
}

impl TextCounter {
    fn add(&mut self, text: &TextFacts) {
        self.stats.count += 1;
        self.stats.empty += usize::from(text.is_empty);
        self.distinct.add(text.hash);
        self.characters.add(text.characters);
        self.letters += u64::from(text.letters);
        self.han += u64::from(text.han);
    }

    fn finish(&mut self) -> TextStats {
        TextStats {
            distinct: self.distinct.count(),
            characters: self.characters.summary(),
            chinese: if self.letters == 0 { 0.0 } else { self.han as f64 / self.letters as f64 },
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(content: &str, name: &str) -> (RowStats, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let mut bad = Vec::new();
        let stats = collect_stats(&[path.clone(), path], &mut |error| {
            bad.push(error.to_string().replace(&folder.path().display().to_string(), "F"));
            Ok(())
        });
        (stats.expect("read"), bad)
    }

    #[test]
    fn everything_is_counted() {
        let content = r#"
            {"query": "头痛", "pos": ["休息", "多喝水"], "neg": ["休息。", "头痛", "abc", "ABC"], "pos_scores": [1, 2], "neg_scores": [0, 0, 0, 0]}
            {"anchor": "头 痛", "positive": "休息"}
            {"text": "咳嗽1"}
            {"query": "", "pos": [" "], "neg": []}
            {"query": "#;
        let (stats, bad) = stats(&content.replace("            ", ""), "rows.jsonl");
        // The file is read twice.
        assert_eq!((stats.rows, stats.bad, stats.plain, stats.scored_rows), (8, 2, 2, 2));
        assert_eq!((stats.duplicate_rows, stats.duplicate_queries), (4, 5));
        assert_eq!((stats.positives_as_negatives, stats.queries_as_negatives, stats.repeated_negatives), (2, 2, 2));
        assert_eq!((stats.queries.count, stats.queries.distinct, stats.queries.empty), (8, 3, 2));
        assert_eq!((stats.positives.count, stats.positives.distinct, stats.positives.empty), (10, 4, 2));
        assert_eq!((stats.negatives.count, stats.negatives.distinct, stats.negatives.empty), (8, 3, 0));
        assert_eq!(stats.negatives.chinese, 4.0 / 10.0);
        assert_eq!((stats.queries.chinese, stats.queries.characters.max), (6.0 / 7.0, 3));
        assert_eq!((stats.negatives_per_row.mean, stats.negatives_per_row.median), (1.0, 0));
        assert_eq!(bad, ["F/rows.jsonl:6: EOF while parsing a value (column 10)"; 2]);
    }

    #[test]
    fn tables_are_counted_as_lines_are() {
        let table = "query,pos,neg\n头痛,休息,abc\n咳嗽,多喝水,d\n";
        let lines = "{\"query\":\"头痛\",\"pos\":\"休息\",\"neg\":\"abc\"}\n{\"query\":\"咳嗽\",\"pos\":\"多喝水\",\"neg\":\"d\"}\n";
        assert_eq!(stats(table, "rows.csv").0, stats(lines, "rows.jsonl").0);
    }

    #[test]
    fn the_first_bad_row_may_stop_it_and_no_rows_are_zeros() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, "{}\n").expect("written");
        let error = collect_stats(std::slice::from_ref(&path), &mut Err).expect_err("stopped");
        assert_eq!(error.line_number(), Some(1));
        std::fs::write(&path, "\n").expect("written");
        assert_eq!(collect_stats(&[path], &mut Err).expect("read"), RowStats::default());
    }
}
