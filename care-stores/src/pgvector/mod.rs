//! [`PgVector`]: a table of PostgreSQL with its extension pgvector.
//!
//! A row of the table has `id` (the primary key), `text`, `metadata` (jsonb), `digest` and `embedding` (`vector` or
//! `halfvec`). The tower is in the table's comment. Similarity is `<#>`, the negative inner product: with `<=>`, the cosine
//! distance, vectors of other lengths would be compared otherwise than by the dot product.
//!
//! # Reference
//! README of pgvector 0.8.

mod sql;

use std::collections::HashMap;

use care_core::index::{DocumentTower, Record, VectorFormat};
use care_core::{Embeddings, Error, ErrorKind, Result};
use pgvector::Vector;
use serde::{Deserialize, Serialize};

pub use postgres;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Row};

use crate::store::{Found, StoreSearch, StoredRow, VectorStore, check_queries, check_rows, digest};
use sql::Where;

/// The oldest version of pgvector that goes on scanning its index until a search has its rows.
const VERSION: (u32, u32) = (0, 8);
/// Candidates of an approximate search at least; pgvector's default is 40.
const CANDIDATES: usize = 200;
/// Candidates of an approximate search at most, as pgvector allows.
const MOST_CANDIDATES: usize = 1000;

/// How a table is created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgVectorOptions {
    /// Name of the table, with a schema or without: `docs`, `medicine.docs`.
    pub table: String,
    /// The dtype of the vectors: `vector` (f32, the default) or `halfvec` (f16).
    pub vectors: VectorFormat,
    /// Whether a push ends with an approximate index (HNSW), for at most 2000 dimensions in f32 and 4000 in f16; by default
    /// not, and every search is exact.
    pub hnsw: bool,
}

impl PgVectorOptions {
    /// A table in f32 without an approximate index.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), vectors: VectorFormat::F32, hnsw: false }
    }

    /// Sets [`PgVectorOptions::vectors`].
    #[must_use]
    pub fn with_vectors(mut self, vectors: VectorFormat) -> Self {
        self.vectors = vectors;
        self
    }

    /// Sets [`PgVectorOptions::hnsw`].
    #[must_use]
    pub fn with_hnsw(mut self, hnsw: bool) -> Self {
        self.hnsw = hnsw;
        self
    }
}

/// A table of PostgreSQL with vectors.
pub struct PgVector {
    client: Client,
    table: String,
    tower: DocumentTower,
    dim: usize,
    format: VectorFormat,
    hnsw: bool,
}

/// The comment of a table.
#[derive(Serialize, Deserialize)]
struct Comment {
    care_tower: DocumentTower,
}

/// A connection without TLS: to this machine, a trusted network or a tunnel. For TLS, make a [`Client`] with a connector.
///
/// # Errors
/// If `config` is no connection string (`host=localhost user=care dbname=care` or `postgresql://..`), or the server refuses.
pub fn connect(config: &str) -> Result<Client> {
    Client::connect(config, NoTls).map_err(|e| failed("cannot connect", &e).with_source(e))
}

impl PgVector {
    /// Opens a table that [`PgVector::open_or_create`] made.
    ///
    /// # Errors
    /// If the server does not answer, has no such table, or the table is of another kind.
    pub fn open(mut client: Client, table: &str) -> Result<Self> {
        sql::check_table(table)?;
        check_version(&mut client)?;
        match described(&mut client, table)? {
            Some((tower, dim, format)) => Ok(Self { client, table: table.to_owned(), tower, dim, format, hnsw: false }),
            None => Err(Error::new(ErrorKind::Config, format!("there is no table {table}"))),
        }
    }

    /// Opens a table, or creates it if there is none, for vectors of this tower. The extension must be installed, or
    /// the user must be allowed to install it.
    ///
    /// # Errors
    /// As [`PgVector::open`], if the table has vectors of another tower, other dimensions or another dtype, and if there are
    /// more dimensions than pgvector stores (16000) or indexes.
    pub fn open_or_create(
        mut client: Client,
        options: &PgVectorOptions,
        tower: &DocumentTower,
        dim: usize,
    ) -> Result<Self> {
        let PgVectorOptions { table, vectors, hnsw } = options;
        sql::check_table(table)?;
        sql::check_dim(dim, *vectors, *hnsw)?;
        let created = "CREATE EXTENSION IF NOT EXISTS vector";
        client.batch_execute(created).map_err(|e| failed("cannot install the extension", &e).with_source(e))?;
        check_version(&mut client)?;
        if described(&mut client, table)?.is_none() {
            create(&mut client, table, *vectors, dim, tower)?;
        }
        let store = Self::open(client, table)?;
        store.tower.check(store.name(), tower)?;
        if (store.dim, store.format) != (dim, *vectors) {
            let [stored, wanted] = [(store.dim, store.format), (dim, *vectors)]
                .map(|(dim, format)| format!("{}({dim})", sql::column_type(format)));
            let message = format!("{} has vectors in {stored}, not in {wanted}", store.name());
            return Err(Error::new(ErrorKind::Dimension, message));
        }
        Ok(Self { hnsw: *hnsw, ..store })
    }

    fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let name = self.name();
        self.client.query(sql, parameters).map_err(|e| failed(&name, &e).with_source(e))
    }

    fn search_one(&mut self, query: &[f32], search: &StoreSearch) -> Result<Vec<Found>> {
        let (mut conditions, query) = (Where::default(), Vector::from(query.to_vec()));
        let filter = search.filter.as_ref().map_or_else(|| "true".to_owned(), |filter| conditions.sql(filter));
        let limit = i64::try_from(search.k).unwrap_or(i64::MAX);
        let kind = sql::column_type(self.format);
        let [at_query, at_limit] = [1, 2].map(|more| conditions.len() + more);
        // A sum is no expression of an index, so every row is scored.
        let order = if search.approximate { "distance" } else { "distance + 0, id" };
        let statement = format!(
            "SELECT id, text, metadata::text, -distance FROM \
             (SELECT *, embedding <#> ${at_query}::vector::{kind} AS distance FROM {table}) AS rows \
             WHERE {filter} ORDER BY {order} LIMIT ${at_limit}",
            table = self.table
        );
        let mut parameters = conditions.parameters();
        parameters.extend([&query as &(dyn ToSql + Sync), &limit]);
        let name = self.name();
        let failed = |e: postgres::Error| failed(&name, &e).with_source(e);
        let mut transaction = self.client.transaction().map_err(failed)?;
        if search.approximate {
            let candidates = search.k.clamp(CANDIDATES, MOST_CANDIDATES);
            let settings =
                format!("SET LOCAL hnsw.ef_search = {candidates}; SET LOCAL hnsw.iterative_scan = strict_order");
            transaction.batch_execute(&settings).map_err(failed)?;
        }
        let rows = transaction.query(&statement, &parameters).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let hits = rows.iter().map(|row| Ok(Found { record: record(row, &name)?, score: row.get::<_, f64>(3) as f32 }));
        hits.collect()
    }
}

impl VectorStore for PgVector {
    fn name(&self) -> String {
        format!("the table {}", self.table)
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
        let rows = self.query(&format!("SELECT count(*) FROM {}", self.table), &[])?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as usize)
    }

    fn put(&mut self, records: &[Record], vectors: &Embeddings) -> Result<()> {
        check_rows(self.dim, self.format, records, vectors)?;
        let (mut ids, mut texts, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
        let (mut digests, mut embeddings) = (Vec::new(), Vec::new());
        for (record, vector) in records.iter().zip(vectors.as_array().rows()) {
            sql::check_text(record)?;
            let vector = vector.to_vec();
            ids.push(record.id.as_str());
            texts.push(record.text.as_deref());
            metadata.push(serde_json::Value::Object(record.metadata.clone()).to_string());
            digests.push(digest(record, &vector));
            embeddings.push(Vector::from(vector));
        }
        let statement = format!(
            "INSERT INTO {table} (id, text, metadata, digest, embedding) \
             SELECT id, text, metadata::jsonb, digest, embedding::{kind} \
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::vector[]) \
             AS rows (id, text, metadata, digest, embedding) \
             ON CONFLICT (id) DO UPDATE SET text = excluded.text, metadata = excluded.metadata, \
             digest = excluded.digest, embedding = excluded.embedding",
            table = self.table,
            kind = sql::column_type(self.format)
        );
        self.query(&statement, &[&ids, &texts, &metadata, &digests, &embeddings])?;
        Ok(())
    }

    fn remove(&mut self, ids: &[&str]) -> Result<usize> {
        let statement = format!("DELETE FROM {} WHERE id = ANY($1::text[]) RETURNING id", self.table);
        Ok(self.query(&statement, &[&sql::without_nul(ids)])?.len())
    }

    fn get(&mut self, ids: &[&str]) -> Result<Vec<Option<StoredRow>>> {
        let statement = format!(
            "SELECT id, text, metadata::text, embedding::vector FROM {} WHERE id = ANY($1::text[])",
            self.table
        );
        let mut rows = HashMap::new();
        for row in self.query(&statement, &[&sql::without_nul(ids)])? {
            let vector: Vector = row.get(3);
            let record = record(&row, &self.name())?;
            rows.insert(record.id.clone(), StoredRow { record, vector: vector.to_vec() });
        }
        Ok(ids.iter().map(|id| rows.get(*id).cloned()).collect())
    }

    fn digests(&mut self, ids: &[&str]) -> Result<Vec<Option<String>>> {
        let statement = format!("SELECT id, digest FROM {} WHERE id = ANY($1::text[])", self.table);
        let rows = self.query(&statement, &[&sql::without_nul(ids)])?;
        let digests: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(ids.iter().map(|id| digests.get(*id).cloned()).collect())
    }

    fn ids(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let statement = format!("SELECT id FROM {} WHERE $1::text IS NULL OR id > $1 ORDER BY id LIMIT $2", self.table);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(self.query(&statement, &[&after, &limit])?.iter().map(|row| row.get(0)).collect())
    }

    /// Of approximate searches: a filter that few rows fit may leave fewer than `k`, since pgvector gives up after 20000
    /// candidates (`hnsw.max_scan_tuples`).
    fn search(&mut self, queries: &Embeddings, search: &StoreSearch) -> Result<Vec<Vec<Found>>> {
        check_queries(self.dim, queries)?;
        queries.as_array().rows().into_iter().map(|query| self.search_one(&query.to_vec(), search)).collect()
    }

    /// Builds the approximate index, if the table was opened to have it, and counts values for the planner.
    fn finish(&mut self) -> Result<()> {
        if self.hnsw {
            let statement = sql::create_index(&self.table, self.format);
            self.query(&statement, &[])?;
        }
        self.query(&format!("ANALYZE {}", self.table), &[])?;
        Ok(())
    }
}

/// The tower, dimensions and dtype of a table; `None` if there is no such table.
fn described(client: &mut Client, table: &str) -> Result<Option<(DocumentTower, usize, VectorFormat)>> {
    let statement = "SELECT obj_description(table_id, 'pg_class'), \
                     (SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                      WHERE attrelid = table_id AND attname = 'embedding' AND NOT attisdropped) \
                     FROM (SELECT to_regclass($1)::oid AS table_id) AS found WHERE table_id IS NOT NULL";
    let rows = client.query(statement, &[&table]).map_err(|e| failed(table, &e).with_source(e))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let foreign = |problem: &str| Error::new(ErrorKind::Config, format!("the table {table} {problem}"));
    let comment: Option<String> = row.get(0);
    let comment = comment.and_then(|comment| serde_json::from_str::<Comment>(&comment).ok());
    let Comment { care_tower } = comment.ok_or_else(|| foreign("was not made by CARE: its comment has no tower"))?;
    let column: Option<String> = row.get(1);
    let (dim, format) = column
        .as_deref()
        .and_then(sql::dim_and_format)
        .ok_or_else(|| foreign("has no column `embedding` of the type vector or halfvec with its dimensions"))?;
    Ok(Some((care_tower, dim, format)))
}

fn create(client: &mut Client, table: &str, format: VectorFormat, dim: usize, tower: &DocumentTower) -> Result<()> {
    let failed = |e: postgres::Error| failed(table, &e).with_source(e);
    let mut transaction = client.transaction().map_err(failed)?;
    transaction.batch_execute(&sql::create_table(table, format, dim)).map_err(failed)?;
    let comment = serde_json::to_string(&Comment { care_tower: tower.clone() });
    let comment = comment.map_err(|e| Error::new(ErrorKind::Config, e.to_string()).with_source(e))?;
    // A comment takes no parameter; the server quotes it.
    let statement = format!("SELECT format('COMMENT ON TABLE {table} IS %L', $1::text)");
    let statement: String = transaction.query_one(&statement, &[&comment]).map_err(failed)?.get(0);
    transaction.batch_execute(&statement).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn check_version(client: &mut Client) -> Result<()> {
    let statement = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
    let rows = client.query(statement, &[]).map_err(|e| failed("the extension", &e).with_source(e))?;
    let version: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= VERSION {
        return Ok(());
    }
    let found = if version.is_empty() { "not installed in this database" } else { version.as_str() };
    let message = format!("the extension vector is {found}, needed: {}.{} or newer", VERSION.0, VERSION.1);
    Err(Error::new(ErrorKind::Config, message))
}

/// The record of a row whose first columns are id, text and metadata.
fn record(row: &Row, name: &str) -> Result<Record> {
    let (id, text, metadata): (String, Option<String>, String) = (row.get(0), row.get(1), row.get(2));
    let metadata = serde_json::from_str(&metadata).map_err(|e| {
        Error::new(ErrorKind::Format, format!("{name}: row {id:?} has no object as metadata: {e}")).with_source(e)
    })?;
    Ok(Record { id, text, metadata })
}

/// The problem in the server's words, which the library leaves to the cause.
fn failed(what: &str, error: &postgres::Error) -> Error {
    let problem = match error.as_db_error() {
        Some(problem) => match problem.detail() {
            Some(detail) => format!("{}: {detail}", problem.message()),
            None => problem.message().to_owned(),
        },
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    };
    Error::new(ErrorKind::Io, format!("PostgreSQL: {what}: {problem}"))
}
