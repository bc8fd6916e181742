//! The queries to mine for, with their positives.

use std::path::Path;

use care_core::{Error, ErrorKind, Query, Result, Text};

use super::documents::{Key, key};
use super::spool::Spool;
use crate::normalise::normalise;

/// Queries and the numbers of their positives in [`Documents`](crate::mine::Documents).
///
/// Texts are in a nameless temporary file in `folder`. Memory is about 60 bytes per query, and
/// while negatives are mined 40 more, with 4 bytes for each score that the report is made of.
pub struct Queries {
    spool: Spool,
    /// Key of each query's normalised text, and its number; sorted once they are complete.
    keys: Vec<(Key, u32)>,
    positives: Vec<u32>,
    /// End of each query's positives.
    ends: Vec<usize>,
}

/// A query as it is given to a [`Source`](crate::mine::Source).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MiningQuery {
    /// Its id; empty if there is none.
    pub id: String,
    /// Its text.
    pub query: Query,
    /// What the caller keeps with it, e.g. the row that it is from.
    pub payload: String,
}

impl Queries {
    /// No queries yet.
    ///
    /// # Errors
    /// If no file can be written in `folder`.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { spool: Spool::new(folder.as_ref())?, keys: Vec::new(), positives: Vec::new(), ends: Vec::new() })
    }

    /// Adds a query with the numbers of its positives.
    ///
    /// # Errors
    /// If the text is empty or there is no positive, or the temporary file cannot be written.
    pub fn add(&mut self, id: &str, query: &Query, positives: &[usize], payload: &str) -> Result<()> {
        let refuse = |problem: &str| Err(Error::new(ErrorKind::Format, problem.to_owned()));
        if query.content().trim().is_empty() {
            return refuse("the query is empty");
        }
        if positives.is_empty() {
            return refuse("there is no positive");
        }
        let number = u32::try_from(self.len());
        let number = number.map_err(|_| Error::new(ErrorKind::Config, "more than 2^32 - 1 queries"))?;
        self.spool.push([id, &query.content(), payload])?;
        self.keys.push((key(&normalise(&query.content())), number));
        self.positives.extend(positives.iter().map(|&positive| positive as u32));
        self.ends.push(self.positives.len());
        Ok(())
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A query by its number.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    ///
    /// # Panics
    /// Panics if there is no such query.
    pub fn get(&self, number: usize) -> Result<MiningQuery> {
        let [id, text, payload] = self.spool.get(number)?;
        Ok(MiningQuery { id, query: Query::new(text), payload })
    }

    /// The positives of a query.
    pub fn positives(&self, number: usize) -> &[u32] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.positives[start..self.ends[number]]
    }

    /// Which queries have the same normalised text.
    pub(super) fn equals(&self) -> Equals {
        let mut sorted = self.keys.clone();
        sorted.sort_unstable();
        Equals { sorted }
    }

    /// The key of a query's normalised text.
    pub(super) fn key(&self, number: usize) -> Key {
        self.keys[number].0
    }
}

/// Queries by their normalised text.
pub(super) struct Equals {
    sorted: Vec<(Key, u32)>,
}

impl Equals {
    /// The positives of all other queries with the text of this one, which are not its own.
    pub(super) fn known(&self, queries: &Queries, number: usize) -> Vec<u32> {
        let key = queries.key(number);
        let start = self.sorted.partition_point(|(other, _)| *other < key);
        let equal = self.sorted[start..].iter().take_while(|(other, _)| *other == key);
        let own = queries.positives(number);
        let others = equal.filter(|(_, other)| *other as usize != number);
        let mut known: Vec<u32> = others.flat_map(|(_, other)| queries.positives(*other as usize)).copied().collect();
        known.sort_unstable();
        known.dedup();
        known.retain(|positive| !own.contains(positive));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positives_of_the_same_text_elsewhere_are_known() {
        let mut queries = Queries::new(std::env::temp_dir()).expect("opened");
        for (text, positives) in [("头痛？", &[0, 1][..]), ("发烧", &[2]), ("头痛", &[1, 3]), ("头 痛", &[3])]
        {
            queries.add("", &text.into(), positives, "row").expect("added");
        }
        let equals = queries.equals();
        let known: Vec<_> = (0..4).map(|number| equals.known(&queries, number)).collect();
        assert_eq!(known, [vec![3], vec![], vec![0], vec![0, 1]]);
        let query = queries.get(2).expect("read");
        assert_eq!((query.query.content().as_ref(), query.payload.as_str()), ("头痛", "row"));
        assert_eq!(queries.positives(2), [1, 3]);
    }

    #[test]
    fn a_query_without_text_or_positive_is_refused() {
        let mut queries = Queries::new(std::env::temp_dir()).expect("opened");
        let mut refusal = |text: &str, positives: &[usize]| {
            queries.add("", &text.into(), positives, "").expect_err("bad").to_string()
        };
        assert_eq!(refusal("\u{3000}", &[1]), "the query is empty");
        assert_eq!(refusal("头痛", &[]), "there is no positive");
        assert!(queries.is_empty());
    }
}
