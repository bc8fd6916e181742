//! The documents of a part of a file: JSON Lines by bytes, Parquet by rows.

mod cached;
mod jsonl;
mod parquet;
mod row;

use std::ops::Range;

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

pub use self::row::Fields;
pub(crate) use self::row::{Row, Rows};
use crate::storage::{Found, Storage, Stores};

/// A file of documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where the file is.
    pub url: String,
    /// Its format.
    pub format: InputFormat,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was written, in seconds since 1970 by its store's clock: a file that was written since is refused.
    pub modified: i64,
    /// Number of rows, where the file tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// The format of a file of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InputFormat {
    /// One JSON object per line; parts are ranges of bytes.
    Jsonl,
    /// Parquet; parts are ranges of rows.
    Parquet,
}

/// How files are named that are packed as a whole.
const PACKED: [&str; 5] = ["gz", "zst", "xz", "bz2", "zip"];

/// The files at a place: itself, or all `.jsonl` and `.parquet` files below it by name. Packed ones are refused, since a corpus
/// would silently be incomplete without them.
pub(crate) fn find(storage: &Storage) -> Result<Vec<Input>> {
    if let Some(found) = storage.head("")? {
        return Ok(vec![input(storage, &found)?]);
    }
    let is_of_documents = |found: &Found| {
        let packed = found.name.rsplit_once('.').filter(|(_, extension)| PACKED.contains(extension));
        format_of(packed.map_or(&found.name, |(name, _)| name)).is_ok()
    };
    let below = storage.list("")?.into_iter().filter(is_of_documents);
    let inputs: Vec<Input> = below.map(|found| input(&storage.below(&found.name)?, &found)).collect::<Result<_>>()?;
    if inputs.is_empty() {
        let problem = format!("there is no file {}, and below it is no .jsonl or .parquet file", storage.url());
        return Err(Error::new(ErrorKind::Io, problem));
    }
    Ok(inputs)
}

fn input(storage: &Storage, found: &Found) -> Result<Input> {
    let (url, format) = (storage.url().to_owned(), format_of(storage.url())?);
    let (bytes, modified) = (found.bytes, found.modified);
    let rows = match format {
        InputFormat::Jsonl => None,
        InputFormat::Parquet => Some(parquet::rows(storage, bytes)?),
    };
    Ok(Input { url, format, bytes, modified, rows })
}

fn format_of(name: &str) -> Result<InputFormat> {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jsonl") => Ok(InputFormat::Jsonl),
        Some("parquet") => Ok(InputFormat::Parquet),
        Some(extension) if PACKED.contains(&extension) => {
            Err(Error::format(name, "a file that is packed as a whole cannot be cut into shards: unpack it"))
        }
        _ => Err(Error::format(name, "documents are read from .jsonl and .parquet files")),
    }
}

impl Input {
    /// What shards count: bytes of JSON Lines, rows of Parquet.
    pub(crate) fn len(&self) -> u64 {
        self.rows.unwrap_or(self.bytes)
    }

    /// Reads the documents of a part of the file.
    pub(crate) fn read(&self, stores: &Stores, fields: &Fields, part: Range<u64>) -> Result<Rows> {
        let storage = stores.open(&self.url)?;
        let found = storage.head("")?.ok_or_else(|| self.changed("is no longer there"))?;
        if (found.bytes, found.modified) != (self.bytes, self.modified) {
            return Err(self.changed("was changed after the plan was made: make a new plan"));
        }
        match self.format {
            InputFormat::Jsonl => jsonl::read(&storage, self.bytes, fields, part),
            InputFormat::Parquet => parquet::read(&storage, self.bytes, fields, part),
        }
    }

    /// Of the kind that no shard is to blame for.
    fn changed(&self, how: &str) -> Error {
        Error::format(&self.url, format!("the file {how}")).with_kind(ErrorKind::Config)
    }
}
