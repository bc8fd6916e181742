//! A database in place of an index on disk: which, and where.

use anyhow::{Result, bail};
use care_core::index::{DiskIndex, VectorFormat};
use care_stores::VectorStore;
use care_stores::pgvector::{self, PgVector, PgVectorOptions};
use care_stores::qdrant::{Qdrant, QdrantOptions};
use clap::ValueEnum;

/// The variable that may hold the address.
const URL: &str = "CARE_STORE_URL";
/// The variable that holds the key of a Qdrant server.
const KEY: &str = "QDRANT_API_KEY";

/// Databases by name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Database {
    Qdrant,
    Pgvector,
}

#[derive(clap::Args)]
pub(super) struct PlaceArgs {
    /// Where the database is: http://localhost:6333 (Qdrant; the variable QDRANT_API_KEY may hold a key), or
    /// "host=localhost user=care dbname=care" (pgvector); by default the variable CARE_STORE_URL
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Name of the collection or table
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl PlaceArgs {
    /// A store that was filled before.
    pub(super) fn open(&self, database: Database) -> Result<Box<dyn VectorStore>> {
        let (url, name) = self.place()?;
        Ok(match database {
            Database::Qdrant => Box::new(Qdrant::open(&qdrant(url, name))?),
            Database::Pgvector => Box::new(PgVector::open(pgvector::connect(&url)?, &name)?),
        })
    }

    /// A store for the vectors of an index, which is created if there is none.
    pub(super) fn open_or_create(
        &self,
        database: Database,
        index: &DiskIndex,
        vectors: VectorFormat,
        hnsw: bool,
    ) -> Result<Box<dyn VectorStore>> {
        let ((url, name), tower, dim) = (self.place()?, index.tower(), index.dim());
        Ok(match database {
            Database::Qdrant => {
                let options = qdrant(url, name).with_vectors(vectors);
                Box::new(Qdrant::open_or_create(&options, tower, dim)?)
            }
            Database::Pgvector => {
                let options = PgVectorOptions::new(name).with_vectors(vectors).with_hnsw(hnsw);
                Box::new(PgVector::open_or_create(pgvector::connect(&url)?, &options, tower, dim)?)
            }
        })
    }

    /// Whether one of the options is given.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some() || self.name.is_some()
    }

    fn place(&self) -> Result<(String, String)> {
        let url = self.url.clone().or_else(|| std::env::var(URL).ok());
        match (url, &self.name) {
            (Some(url), Some(name)) => Ok((url, name.clone())),
            (None, _) => bail!("where is the database? Give --url or set the variable {URL}"),
            (_, None) => bail!("which collection or table? Give --name"),
        }
    }
}

fn qdrant(url: String, name: String) -> QdrantOptions {
    let options = QdrantOptions::new(url, name);
    match std::env::var(KEY) {
        Ok(key) if !key.is_empty() => options.with_api_key(key),
        _ => options,
    }
}
