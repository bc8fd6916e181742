//! [`Qdrant`]: a collection of a Qdrant server.
//!
//! A row is a point: its id is a UUID made of the SHA-256 of the row's id, since Qdrant takes only numbers and UUIDs; its
//! payload has `id`, `text`, `metadata` (an object) and `digest`; its vector is the collection's unnamed one, with the
//! distance `Dot`, since `Cosine` normalises the vectors that it stores. The tower is in the collection's metadata.
//!
//! # Reference
//! Qdrant's OpenAPI description, 1.19.

mod filter;
mod options;
mod rest;

use std::collections::{BTreeSet, HashMap};

use care_core::files::sha256_hex;
use care_core::index::{DocumentTower, Record, VectorFormat};
use care_core::{Embeddings, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::store::{Found, StoreSearch, StoredRow, VectorStore, check_queries, check_rows, digest};
use filter::condition;
pub use options::QdrantOptions;
use rest::Rest;

/// Queries per request.
const QUERIES: usize = 64;
/// The field of a collection's metadata that has the tower.
const TOWER: &str = "care_tower";

/// A collection of a Qdrant server.
#[derive(Debug)]
pub struct Qdrant {
    rest: Rest,
    tower: DocumentTower,
    dim: usize,
    format: VectorFormat,
}

#[derive(Deserialize)]
struct CollectionInfo {
    status: String,
    optimizer_status: Value,
    config: CollectionConfig,
}

#[derive(Deserialize)]
struct CollectionConfig {
    params: CollectionParams,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct CollectionParams {
    vectors: Value,
}

#[derive(Deserialize)]
struct VectorParams {
    size: usize,
    distance: String,
    datatype: Option<String>,
}

#[derive(Serialize)]
struct Points<'a> {
    points: Vec<Point<'a>>,
}

#[derive(Serialize)]
struct Point<'a> {
    id: String,
    vector: &'a [f32],
    payload: Payload,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    id: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    digest: String,
}

#[derive(Clone, Deserialize)]
struct PointRecord {
    id: Value,
    payload: Option<Value>,
    vector: Option<Vec<f32>>,
}

#[derive(Deserialize)]
struct ScrollResult {
    points: Vec<PointRecord>,
}

#[derive(Deserialize)]
struct QueryResponse {
    points: Vec<ScoredPoint>,
}

#[derive(Deserialize)]
struct ScoredPoint {
    score: f32,
    payload: Option<Value>,
}

#[derive(Deserialize)]
struct CountResult {
    count: usize,
}

#[derive(Deserialize)]
struct UpdateResult {
    status: String,
}

impl Qdrant {
    /// Opens a collection that [`Qdrant::open_or_create`] made.
    ///
    /// # Errors
    /// If the server does not answer, has no such collection, or the collection is of another kind.
    pub fn open(options: &QdrantOptions) -> Result<Self> {
        let rest = Rest::new(options)?;
        match collection(&rest)? {
            Some(info) => Self::of(rest, info),
            None => Err(Error::new(ErrorKind::Config, format!("{} does not exist", rest.name()))),
        }
    }

    /// Opens a collection, or creates it if there is none, for vectors of this tower.
    ///
    /// # Errors
    /// As [`Qdrant::open`], and if the collection has vectors of another tower, other dimensions or another dtype.
    pub fn open_or_create(options: &QdrantOptions, tower: &DocumentTower, dim: usize) -> Result<Self> {
        let rest = Rest::new(options)?;
        let datatype = datatype(options.vectors);
        let info = match collection(&rest)? {
            Some(info) => info,
            None => {
                let body = json!({
                    "vectors": { "size": dim, "distance": "Dot", "datatype": datatype },
                    "metadata": { TOWER: tower },
                });
                rest.call::<Value>("PUT", "", Some(&body))?;
                let lost = || rest.malformed("it is not there after it was created");
                collection(&rest)?.ok_or_else(lost)?
            }
        };
        let store = Self::of(rest, info)?;
        store.tower.check(store.name(), tower)?;
        if (store.dim, store.format) != (dim, options.vectors) {
            let stored = format!("{} dimensions in {}", store.dim, self::datatype(store.format));
            let message = format!("{} has vectors of {stored}, not of {dim} in {datatype}", store.name());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        Ok(store)
    }

    fn of(rest: Rest, info: CollectionInfo) -> Result<Self> {
        let foreign = |problem: String| Error::new(ErrorKind::Config, format!("{} {problem}", rest.name()));
        let tower = info.config.metadata.and_then(|mut metadata| metadata.remove(TOWER));
        let tower = tower.ok_or_else(|| foreign(format!("was not made by CARE: its metadata has no `{TOWER}`")))?;
        let tower =
            serde_json::from_value(tower).map_err(|e| foreign(format!("has a `{TOWER}` of another form: {e}")))?;
        let params: VectorParams = serde_json::from_value(info.config.params.vectors)
            .map_err(|e| foreign(format!("has no single vector per point: {e}")).with_source(e))?;
        if params.distance != "Dot" {
            return Err(foreign(format!("has the distance {}, not Dot", params.distance)));
        }
        let format = match params.datatype.as_deref() {
            None | Some("float32") => VectorFormat::F32,
            Some("float16") => VectorFormat::F16,
            Some(other) => return Err(foreign(format!("has vectors in {other}, not in float32 or float16"))),
        };
        Ok(Self { dim: params.size, tower, format, rest })
    }

    /// Points by ids, in their order.
    fn points(&self, ids: &[&str], payload: &Value, vector: bool) -> Result<Vec<Option<PointRecord>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let uuids: Vec<String> = ids.iter().map(|id| uuid(id)).collect();
        let body = json!({ "ids": uuids, "with_payload": payload, "with_vector": vector });
        let points: Vec<PointRecord> = self.rest.call("POST", "/points", Some(&body))?;
        let mut known: HashMap<String, PointRecord> = HashMap::new();
        for point in points {
            if let Value::String(id) = &point.id {
                known.insert(id.clone(), point);
            }
        }
        Ok(uuids.iter().map(|uuid| known.get(uuid).cloned()).collect())
    }

    fn payload(&self, payload: Option<Value>) -> Result<Payload> {
        let payload = payload.ok_or_else(|| self.rest.malformed("a point has no payload"))?;
        serde_json::from_value(payload).map_err(|e| self.rest.malformed("a point has another payload").with_source(e))
    }

    /// An update that is applied when the server answers.
    fn update(&self, path: &str, method: &str, body: &impl Serialize) -> Result<()> {
        let result: UpdateResult = self.rest.call(method, &format!("{path}?wait=true"), Some(body))?;
        if result.status == "completed" {
            return Ok(());
        }
        let message = format!("{}: an update is {:?} and not yet applied", self.rest.name(), result.status);
        Err(Error::new(ErrorKind::Busy, message))
    }
}

impl VectorStore for Qdrant {
    fn name(&self) -> String {
        self.rest.name()
    }

    fn tower(&self) -> &DocumentTower {
        &self.tower
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn vector_format(&self) -> VectorFormat {
        self.format
    }

    fn count(&mut self) -> Result<usize> {
        let result: CountResult = self.rest.call("POST", "/points/count", Some(&json!({ "exact": true })))?;
        Ok(result.count)
    }

    fn put(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()> {
        check_rows(self.dim, self.format, records, vectors)?;
        if records.is_empty() {
            return Ok(());
        }
        let vectors = vectors.as_array().as_standard_layout();
        let points = records.iter().zip(vectors.rows()).map(|(record, vector)| {
            let vector = vector.to_slice().unwrap_or_default();
            let Record { id, text, metadata } = record.clone();
            let payload = Payload { digest: digest(record, vector), id, text, metadata };
            Point { id: uuid(&record.id), vector, payload }
        });
        self.update("/points", "PUT", &Points { points: points.collect() })
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        let ids: Vec<&str> = BTreeSet::from_iter(ids).into_iter().copied().collect();
        let known = self.points(&ids, &json!(false), false)?;
        let known: Vec<Value> = known.into_iter().flatten().map(|point| point.id).collect();
        if !known.is_empty() {
            self.update("/points/delete", "POST", &json!({ "points": known }))?;
        }
        Ok(known.len())
    }

    fn get(&mut self, ids: &[&str]) -> Result<Vec<Option<StoredRow>>> {
        let points = self.points(ids, &json!(true), true)?.into_iter();
        let rows = points.map(|point| {
            let Some(point) = point else { return Ok(None) };
            let vector = point.vector.ok_or_else(|| self.rest.malformed("a point has no vector"))?;
            Ok(Some(StoredRow { record: self.payload(point.payload)?.into(), vector }))
        });
        rows.collect()
    }

    fn digests(&mut self, ids: &[&str]) -> Result<Vec<Option<String>>> {
        let points = self.points(ids, &json!(["id", "digest"]), false)?.into_iter();
        points.map(|point| point.map(|point| Ok(self.payload(point.payload)?.digest)).transpose()).collect()
    }

    fn ids(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        // The offset is the first point that is returned.
        let mut body = json!({ "limit": limit + 1, "with_payload": ["id"], "with_vector": false });
        if let Some(after) = after {
            body["offset"] = uuid(after).into();
        }
        let result: ScrollResult = self.rest.call("POST", "/points/scroll", Some(&body))?;
        let ids = result.points.into_iter().map(|point| Ok(self.payload(point.payload)?.id));
        let mut ids = ids.collect::<Result<Vec<_>>>()?;
        ids.retain(|id| Some(id.as_str()) != after);
        ids.truncate(limit);
        Ok(ids)
    }

    fn search(&mut self, queries: &Embeddings, search: &StoreSearch) -> Result<Vec<Vec<Found>>> {
        check_queries(self.dim, queries)?;
        if search.k == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let filter = search.filter.as_ref().map(condition).transpose()?.map(|condition| json!({ "must": condition }));
        let queries: Vec<Vec<f32>> = queries.as_array().rows().into_iter().map(|row| row.to_vec()).collect();
        let mut found = Vec::with_capacity(queries.len());
        for queries in queries.chunks(QUERIES) {
            let request = |query: &Vec<f32>| {
                json!({
                    "query": query, "limit": search.k, "filter": filter, "params": { "exact": !search.approximate },
                    "with_payload": true, "with_vector": false,
                })
            };
            let body = json!({ "searches": queries.iter().map(request).collect::<Vec<_>>() });
            let responses: Vec<QueryResponse> = self.rest.call("POST", "/points/query/batch", Some(&body))?;
            if responses.len() != queries.len() {
                let problem = format!("{} queries have {} answers", queries.len(), responses.len());
                return Err(self.rest.malformed(&problem));
            }
            for response in responses {
                let hits = response.points.into_iter();
                let hits = hits.map(|hit| Ok(Found { score: hit.score, record: self.payload(hit.payload)?.into() }));
                found.push(hits.collect::<Result<_>>()?);
            }
        }
        Ok(found)
    }

    /// Refuses a collection that the server reports as broken. The server builds its approximate index by itself, from a
    /// size on that its settings have.
    fn finish(&mut self) -> Result<()> {
        let info = collection(&self.rest)?.ok_or_else(|| self.rest.malformed("it is gone"))?;
        if info.status == "red" || info.optimizer_status != "ok" {
            let problem = format!("its status is {}, its optimizer's {}", info.status, info.optimizer_status);
            return Err(self.rest.malformed(&problem));
        }
        Ok(())
    }
}

impl From<Payload> for Record {
    fn from(payload: Payload) -> Self {
        Self { id: payload.id, text: payload.text, metadata: payload.metadata }
    }
}

/// What the server says about the collection; `None` if there is none.
fn collection(rest: &Rest) -> Result<Option<CollectionInfo>> {
    rest.find("")
}

fn datatype(format: VectorFormat) -> &'static str {
    if format == VectorFormat::F16 { "float16" } else { "float32" }
}

/// The id of the point of a row: a UUID of version 8 with 122 bits of the SHA-256 of the row's id.
fn uuid(id: &str) -> String {
    let hex = sha256_hex(id);
    let variant = ["8", "9", "a", "b"][usize::from(hex.as_bytes()[16] % 4)];
    [&hex[..8], "-", &hex[8..12], "-8", &hex[13..16], "-", variant, &hex[17..20], "-", &hex[20..32]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_uuids_of_version_8() {
        // Computed with Python's hashlib and uuid.
        assert_eq!(uuid("a"), "ca978112-ca1b-8dca-aac2-31b39a23dc4d");
        assert_ne!(uuid("007"), uuid("7"));
    }
}
