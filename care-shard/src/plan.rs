//! The plan of a job: which tower encodes which parts of which files, and in which form the vectors are stored.

use std::ops::Range;

use care_core::embedder::document_tower;
use care_core::files::sha256_hex;
use care_core::index::DocumentTower;
use care_core::{Embedder, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;
use crate::input::{Fields, Input, InputFormat, find};
use crate::storage::{Storage, Stores};

/// The name of the plan in the place of a job.
const PLAN: &str = "plan.json";
/// The version of the format; plans of another one are refused.
const FORMAT: &str = "care-shards-1";
/// Bytes of JSON Lines that are read at each of a few places to learn how long rows are.
const SAMPLE: u64 = 64 << 10;
/// Number of these places.
const SAMPLES: u64 = 8;

/// Which tower encodes which parts of which files. A plan never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of the format.
    format: String,
    /// The document tower: its vectors alone belong to the job.
    pub tower: DocumentTower,
    /// Dimensions of a vector.
    pub dim: usize,
    /// The dtype in which vectors are stored.
    pub dtype: Dtype,
    /// The names of the fields of a document.
    pub fields: Fields,
    /// The files, in the order of the documents.
    pub inputs: Vec<Input>,
    /// Their parts, in the order of the documents.
    pub shards: Vec<Shard>,
}

/// A part of a file, the unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Index of the file in [`Plan::inputs`].
    pub input: usize,
    /// First byte, or first row of Parquet.
    pub start: u64,
    /// The byte or row behind the last.
    pub end: u64,
}

/// How a corpus is cut, and in which form its vectors are stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Rows per shard, at least 1; default 10,000. Of JSON Lines, whose rows are not counted, it is met on average.
    pub shard_rows: u64,
    /// Bytes per shard of JSON Lines instead; default none.
    pub shard_bytes: Option<u64>,
    /// Dtype of the stored vectors; default f16.
    pub dtype: Dtype,
    /// The names of the fields of a document.
    pub fields: Fields,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { shard_rows: 10_000, shard_bytes: None, dtype: Dtype::F16, fields: Fields::default() }
    }
}

impl PlanOptions {
    /// Sets the rows per shard.
    #[must_use]
    pub fn with_shard_rows(mut self, rows: u64) -> Self {
        self.shard_rows = rows;
        self
    }

    /// Sets the bytes per shard of JSON Lines.
    #[must_use]
    pub fn with_shard_bytes(mut self, bytes: Option<u64>) -> Self {
        self.shard_bytes = bytes;
        self
    }

    /// Sets the dtype of the stored vectors.
    #[must_use]
    pub fn with_dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the names of the fields.
    #[must_use]
    pub fn with_fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }
}

/// The document tower of a model.
///
/// # Errors
/// If the model has no fingerprint.
pub(crate) fn tower_of(embedder: &dyn Embedder) -> Result<DocumentTower> {
    document_tower(embedder)?.ok_or_else(|| {
        let problem = "the model has no fingerprint for document vectors, so those of several workers cannot be joined";
        Error::new(ErrorKind::Config, problem)
    })
}

impl Plan {
    /// Cuts the files at `places` into shards. Of JSON Lines only samples are read, of Parquet the ends of files.
    ///
    /// A place is a file, or a folder whose `.jsonl` and `.parquet` files are meant, in the order of their names.
    ///
    /// # Errors
    /// If a place cannot be read, an option is out of range, there is no row, or the model has no fingerprint.
    pub fn new(stores: &Stores, places: &[String], embedder: &dyn Embedder, options: &PlanOptions) -> Result<Self> {
        for (name, value) in [("shard_rows", Some(options.shard_rows)), ("shard_bytes", options.shard_bytes)] {
            if value == Some(0) {
                return Err(Error::setting(name, 0, "at least 1"));
            }
        }
        let (tower, dim) = (tower_of(embedder)?, embedder.embedding_dim());
        let mut inputs = Vec::new();
        for place in places {
            inputs.extend(find(&stores.open(place)?)?);
        }
        let (format, dtype, fields) = (FORMAT.to_owned(), options.dtype, options.fields.clone());
        let mut plan = Self { format, tower, dim, dtype, fields, inputs, shards: Vec::new() };
        let bytes = match options.shard_bytes {
            Some(bytes) => bytes,
            None => (plan.bytes_per_row(stores)? * options.shard_rows as f64).ceil().max(1.0) as u64,
        };
        for (input, file) in plan.inputs.iter().enumerate() {
            let step = if file.format == InputFormat::Jsonl { bytes } else { options.shard_rows };
            let cut = |start| Shard { input, start, end: file.len().min(start.saturating_add(step)) };
            plan.shards.extend((0..file.len()).step_by(step as usize).map(cut));
        }
        match plan.shards.is_empty() {
            true => Err(Error::new(ErrorKind::Format, "the files of documents are empty")),
            false => Ok(plan),
        }
    }

    /// The mean bytes of a row of JSON Lines, by samples.
    fn bytes_per_row(&self, stores: &Stores) -> Result<f64> {
        let lines = self.inputs.iter().filter(|input| input.format == InputFormat::Jsonl);
        let total: u64 = lines.map(|input| input.bytes).sum();
        let (mut rows, mut bytes) = (0, 0);
        for at in (0..SAMPLES).map(|number| (total as u128 * u128::from(number) / u128::from(SAMPLES)) as u64) {
            let Some((input, start)) = self.at_byte(at) else { break };
            let read = input.read(stores, &self.fields, start..input.bytes.min(start + SAMPLE))?;
            rows += read.rows.len();
            bytes += read.range.end - read.range.start;
        }
        Ok(if rows == 0 { 1.0 } else { bytes as f64 / rows as f64 })
    }

    /// The file of JSON Lines that has a byte, if these files are put one after the other, and its place there.
    fn at_byte(&self, mut at: u64) -> Option<(&Input, u64)> {
        for input in self.inputs.iter().filter(|input| input.format == InputFormat::Jsonl) {
            if at < input.bytes {
                return Some((input, at));
            }
            at -= input.bytes;
        }
        None
    }

    /// Writes the plan to the place of a job.
    ///
    /// # Errors
    /// If there is another plan already, or the place cannot be written.
    pub fn create(&self, storage: &Storage) -> Result<()> {
        match storage.create(PLAN, self.to_json()?)? {
            true => Ok(()),
            false => {
                let problem = "there is another plan already: choose another place for the job";
                Err(Error::new(ErrorKind::Config, format!("{}: {problem}", storage.url_of(PLAN))))
            }
        }
    }

    fn to_json(&self) -> Result<Vec<u8>> {
        let failed = |e: serde_json::Error| Error::new(ErrorKind::Format, "the plan cannot be written").with_source(e);
        let mut json = serde_json::to_vec_pretty(self).map_err(failed)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads the plan of a job, and its SHA-256.
    pub(crate) fn read(storage: &Storage) -> Result<(Self, String)> {
        let place = storage.url_of(PLAN);
        let Some(json) = storage.get(PLAN)? else {
            let problem = format!("there is no {place}: make it with `care encode plan`");
            return Err(Error::new(ErrorKind::Config, problem));
        };
        let plan: Self = serde_json::from_slice(&json).map_err(|e| Error::format(&place, &e).with_source(e))?;
        if plan.format != FORMAT {
            return Err(Error::format(&place, format!("`format` is {:?}, allowed: {FORMAT:?}", plan.format)));
        }
        if plan.dim == 0 {
            return Err(Error::format(&place, "`dim` is 0, allowed: at least 1"));
        }
        if let Some(shard) = plan.shards.iter().position(|shard| shard.input >= plan.inputs.len()) {
            return Err(Error::format(&place, format!("shard {shard} is of a file that `inputs` lacks")));
        }
        Ok((plan, sha256_hex(&json)))
    }

    /// Refuses another tower.
    pub(crate) fn check(&self, embedder: &dyn Embedder) -> Result<()> {
        let (ours, tower) = (&self.tower, tower_of(embedder)?);
        let problem = if tower.fingerprint != ours.fingerprint {
            format!("the document tower {}, not for {}", ours.fingerprint, tower.fingerprint)
        } else if tower.instruction != ours.instruction {
            format!("the instruction {:?}, not for {:?}", ours.instruction, tower.instruction)
        } else if embedder.embedding_dim() != self.dim {
            format!("vectors of {} dimensions, not of {}", self.dim, embedder.embedding_dim())
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, format!("the plan is for {problem}")))
    }

    /// The part of its file that is a shard.
    pub(crate) fn part(&self, shard: usize) -> (&Input, Range<u64>) {
        let Shard { input, start, end } = self.shards[shard];
        (&self.inputs[input], start..end)
    }

    /// Bytes of its file that a shard stands for; of Parquet in proportion to rows.
    pub(crate) fn bytes(&self, shard: usize) -> f64 {
        let (input, part) = self.part(shard);
        input.bytes as f64 * (part.end - part.start) as f64 / input.len().max(1) as f64
    }
}
