//! The half of a hybrid search that reads words: BM25 over the texts of an index.

use std::collections::HashMap;

use care_core::index::{DiskIndex, Filter, Hit, Record};
use care_core::{Document, Result, Text};
use care_data::bm25::Bm25;

/// Field of the metadata that is a title.
pub(crate) const TITLE: &str = "title";
/// Rows that fit a filter are scored one by one if they are no more than this.
const FEW: usize = 2000;
/// Rows that are read at once, and hits that are first compared with a filter.
const CHUNK: usize = 1024;

/// BM25 over the texts of an index, by id.
#[derive(Debug, Default)]
pub(crate) struct Words {
    bm25: Bm25,
    /// Of each document of `bm25`; `None` if it was removed.
    ids: Vec<Option<String>>,
    numbers: HashMap<String, usize>,
    /// Whether a row has a text.
    has_texts: bool,
}

impl Words {
    /// Reads the texts of an index.
    pub(crate) fn read(index: &DiskIndex) -> Result<Self> {
        let (mut words, mut records) = (Self::default(), Vec::with_capacity(CHUNK));
        for row in index.rows() {
            records.push(index.record(row)?);
            if records.len() == CHUNK {
                words.add(&records);
                records.clear();
            }
        }
        words.add(&records);
        Ok(words)
    }

    /// Adds rows in place of those that have the same ids.
    pub(crate) fn add(&mut self, records: &[Record]) {
        self.remove(records.iter().map(|record| record.id.as_str()));
        self.bm25.add(&records.iter().map(words_of).collect::<Vec<_>>());
        for record in records {
            self.has_texts |= record.text.is_some();
            self.numbers.insert(record.id.clone(), self.ids.len());
            self.ids.push(Some(record.id.clone()));
        }
    }

    /// Takes rows out of all results. Their tokens count in the frequencies until the index is read again.
    pub(crate) fn remove<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        for id in ids {
            if let Some(number) = self.numbers.remove(id) {
                self.ids[number] = None;
            }
        }
    }

    /// Whether a row has a text: without texts there is nothing to search.
    pub(crate) fn has_texts(&self) -> bool {
        self.has_texts
    }

    /// Documents that were removed.
    fn removed(&self) -> usize {
        self.ids.len() - self.numbers.len()
    }

    /// Whether so many rows were removed that the texts should be read again.
    pub(crate) fn is_worn(&self) -> bool {
        self.removed() > self.numbers.len().max(CHUNK)
    }

    /// The `k` best rows that fit a filter, best first.
    pub(crate) fn search(&self, index: &DiskIndex, query: &str, k: usize, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        let Some(filter) = filter else {
            let hits = self.bm25.search(query, k + self.removed());
            let hits = hits.into_iter().filter_map(|hit| Some((self.ids[hit.index].as_deref()?, hit.score)));
            return rows(index, &hits.take(k).collect::<Vec<_>>());
        };
        let matching = index.matching(filter)?;
        if matching.len() <= FEW {
            return self.best_of(index, query, k, &matching);
        }
        let mut found = Vec::new();
        let hits = self.bm25.search(query, self.ids.len());
        let hits: Vec<_> =
            hits.into_iter().filter_map(|hit| Some((self.ids[hit.index].as_deref()?, hit.score))).collect();
        for hits in growing_parts(&hits) {
            let fits = |hit: &Hit| matching.binary_search(&hit.index).is_ok();
            found.extend(rows(index, hits)?.into_iter().filter(fits));
            if found.len() >= k {
                break;
            }
        }
        found.truncate(k);
        Ok(found)
    }

    /// The `k` best of some rows.
    fn best_of(&self, index: &DiskIndex, query: &str, k: usize, among: &[usize]) -> Result<Vec<Hit>> {
        let scored = among.iter().zip(self.scores(index, query, among)?);
        let mut found: Vec<Hit> =
            scored.filter(|(_, score)| *score > 0.0).map(|(&index, score)| Hit { index, score }).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        found.truncate(k);
        Ok(found)
    }

    /// The scores of rows; 0 for one that shares no token with the query.
    pub(crate) fn scores(&self, index: &DiskIndex, query: &str, rows: &[usize]) -> Result<Vec<f32>> {
        let ids = rows.iter().map(|row| Ok(index.record(*row)?.id)).collect::<Result<Vec<_>>>()?;
        let numbers: Vec<Option<usize>> = ids.iter().map(|id| self.numbers.get(id).copied()).collect();
        let known: Vec<usize> = numbers.iter().flatten().copied().collect();
        let mut scores = self.bm25.scores(query, &known).into_iter();
        Ok(numbers.iter().map(|number| number.and_then(|_| scores.next()).unwrap_or(0.0)).collect())
    }
}

/// The rows of ids that the index has.
fn rows(index: &DiskIndex, hits: &[(&str, f32)]) -> Result<Vec<Hit>> {
    let ids: Vec<&str> = hits.iter().map(|hit| hit.0).collect();
    let found = index.find_all(&ids)?.into_iter().zip(hits);
    Ok(found.filter_map(|(row, (_, score))| Some(Hit { index: row?, score: *score })).collect())
}

/// Parts of hits, each four times as large as the one before. To find the rows of a part, all keys of the index are read, so
/// there must be few parts.
fn growing_parts<T>(mut hits: &[T]) -> impl Iterator<Item = &[T]> {
    let mut size = CHUNK;
    std::iter::from_fn(move || {
        let (part, rest) = hits.split_at(size.min(hits.len()));
        (hits, size) = (rest, 4 * size);
        (!part.is_empty()).then_some(part)
    })
}

/// The text of a row with its title.
fn words_of(record: &Record) -> String {
    document_of(record).content().into_owned()
}

/// A row as the document tower reads it.
pub(crate) fn document_of(record: &Record) -> Document {
    let title = record.metadata.get(TITLE).and_then(|title| title.as_str()).unwrap_or_default();
    Document::with_title(title, record.text.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_few_hits_fit_costs_few_passes_over_the_index() {
        let hits: Vec<usize> = (0..1_000_000).collect();
        let parts: Vec<&[usize]> = growing_parts(&hits).collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>()[..3], [1024, 4096, 16384]);
        assert_eq!((parts.len(), parts.concat() == hits), (6, true));
        assert_eq!(growing_parts(&hits[..0]).count(), 0);
    }
}
