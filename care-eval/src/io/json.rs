//! Runs and qrels as `{query_id: {doc_id: value}}`, in any serde format.
//!
//! Deserialised by hand: a map would lose the order of the documents and hide duplicates.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use super::lines::{parse_grade, whole};
use crate::error::{Error, Result};
use crate::qrels::Qrels;
use crate::run::Run;

/// A collection of documents by query.
trait Table: Default {
    type Value: for<'de> Deserialize<'de>;
    /// Adds a query before its documents; whether it is new.
    fn start(&mut self, query_id: &str) -> bool;
    fn add(&mut self, query_id: &str, doc_id: &str, value: Self::Value) -> Result<()>;
}

impl Table for Run {
    type Value = f32;
    fn start(&mut self, query_id: &str) -> bool {
        let new = !self.contains(query_id);
        // `{"q2": {}}`: the query was answered, with nothing.
        self.insert_query(query_id);
        new
    }
    fn add(&mut self, query_id: &str, doc_id: &str, score: f32) -> Result<()> {
        self.insert(query_id, doc_id, score)
    }
}

impl Table for Qrels {
    type Value = Grade;
    /// A query exists once it has a judgement.
    fn start(&mut self, query_id: &str) -> bool {
        self.get(query_id).is_none()
    }
    fn add(&mut self, query_id: &str, doc_id: &str, Grade(grade): Grade) -> Result<()> {
        self.insert(query_id, doc_id, grade)
    }
}

/// A grade, which some writers store as a float or as text.
struct Grade(i32);

impl<'de> Deserialize<'de> for Grade {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Grade(0))
    }
}

impl Visitor<'_> for Grade {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer as a grade; 1.0 is read as 1")
    }

    fn visit_i64<E: serde::de::Error>(self, grade: i64) -> std::result::Result<Self, E> {
        let wrong = || E::invalid_value(Unexpected::Signed(grade), &self);
        i32::try_from(grade).map(Grade).map_err(|_| wrong())
    }

    fn visit_u64<E: serde::de::Error>(self, grade: u64) -> std::result::Result<Self, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(grade), &self);
        i32::try_from(grade).map(Grade).map_err(|_| wrong())
    }

    fn visit_f64<E: serde::de::Error>(self, grade: f64) -> std::result::Result<Self, E> {
        whole(grade).map(Grade).ok_or_else(|| E::invalid_value(Unexpected::Float(grade), &self))
    }

    fn visit_str<E: serde::de::Error>(self, grade: &str) -> std::result::Result<Self, E> {
        parse_grade("grade", grade).map(Grade).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Queries(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Qrels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Queries(PhantomData))
    }
}

/// The documents of each query keep the order in which they were added.
impl Serialize for Run {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.query_ids().map(|query_id| (query_id, self.retrieved(query_id))))
    }
}

/// Writes a run as `{query_id: {doc_id: score}}`, the form that pytrec_eval, ranx and BEIR's tools read.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if a score is infinite, which JSON cannot represent; nothing is
/// written then. [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written, which may leave it incomplete.
pub fn write_json_run(path: impl AsRef<Path>, run: &Run) -> Result<()> {
    let path = path.as_ref();
    for query_id in run.query_ids() {
        if let Some((doc_id, score)) = run.get(query_id).into_iter().flatten().find(|(_, score)| score.is_infinite()) {
            let message = format!(
                "the score {score} of document {doc_id:?} for query {query_id:?} cannot be represented in JSON"
            );
            return Err(Error::format(message));
        }
    }
    let failed = |e| Error::io("write", path, e);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    serde_json::to_writer(&mut out, run).map_err(|e| failed(e.into()))?;
    out.flush().map_err(failed)
}

struct Queries<T>(PhantomData<T>);

impl<'de, T: Table> Visitor<'de> for Queries<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of queries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<T, A::Error> {
        let mut table = T::default();
        while let Some(query_id) = map.next_key::<String>()? {
            if !table.start(&query_id) {
                return Err(A::Error::custom(format!("duplicate query {query_id:?}")));
            }
            map.next_value_seed(Documents { table: &mut table, query_id: &query_id })?;
        }
        Ok(table)
    }
}

/// Adds the documents of a query to a table.
struct Documents<'a, T> {
    table: &'a mut T,
    query_id: &'a str,
}

impl<'de, T: Table> DeserializeSeed<'de> for Documents<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Table> Visitor<'de> for Documents<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of the documents of query {:?}", self.query_id)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some((doc_id, value)) = map.next_entry::<String, T::Value>()? {
            self.table.add(self.query_id, &doc_id, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
