//! A run from `{query_id: {doc_id: score}}`, in any serde format.
//!
//! Written by hand rather than through a map, which would lose the order of the documents and hide
//! duplicates.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::run::Run;

impl<'de> serde::Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Queries)
    }
}

struct Queries;

impl<'de> Visitor<'de> for Queries {
    type Value = Run;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of queries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Run, A::Error> {
        let mut run = Run::new();
        while let Some(query_id) = map.next_key::<String>()? {
            map.next_value_seed(Documents { run: &mut run, query_id: &query_id })?;
        }
        Ok(run)
    }
}

/// Adds the documents of one query to a run.
struct Documents<'a> {
    run: &'a mut Run,
    query_id: &'a str,
}

impl<'de> DeserializeSeed<'de> for Documents<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Documents<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of the documents of query {:?}", self.query_id)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((doc_id, score)) = map.next_entry::<String, f32>()? {
            self.run.insert(self.query_id, &doc_id, score).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
