//! The manifest of an index: what belongs to it. Replacing this file is what makes a change take effect.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::approximate::Approximation;
use super::checked_file::{FileSeal, crc32};
use super::codes::Codes;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{read_file, write_atomic};
use crate::index::flat::VectorFormat;

/// The name of the manifest in the folder of an index.
pub(super) const MANIFEST: &str = "index.json";
/// The version of the format; indexes of another one are refused.
const FORMAT: &str = "care-index-1";

/// The tower that the vectors of an index are from.
///
/// Vectors of different towers cannot be compared, so an index refuses those of any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentTower {
    /// The tower's [fingerprint](crate::Embedder::fingerprint).
    pub fingerprint: String,
    /// The instruction of its documents, which a fingerprint does not cover; empty if there is none.
    #[serde(default)]
    pub instruction: String,
}

impl DocumentTower {
    /// A tower without an instruction.
    pub fn new(fingerprint: impl Into<String>) -> Self {
        Self { fingerprint: fingerprint.into(), instruction: String::new() }
    }

    /// Sets the instruction.
    #[must_use]
    pub fn with_instruction(mut self, instruction: impl Into<String>) -> Self {
        self.instruction = instruction.into();
        self
    }

    /// Refuses another tower than this one. `holder` is what has the vectors, for the message: `the index DIR`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is another tower or has another instruction; the message names both.
    pub fn check(&self, holder: impl Display, other: &Self) -> Result<()> {
        let problem = if self.fingerprint != other.fingerprint {
            format!("vectors of the document tower {}, not of {}", self.fingerprint, other.fingerprint)
        } else if self.instruction != other.instruction {
            format!("vectors with the instruction {:?}, not {:?}", self.instruction, other.instruction)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, format!("{holder} has {problem}")))
    }
}

/// The content of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexManifest {
    pub(super) format: String,
    pub(super) tower: DocumentTower,
    pub(super) dim: usize,
    pub(super) vectors: VectorFormat,
    pub(super) codes: Vec<Codes>,
    /// The number of the next segment.
    pub(super) next_segment: u64,
    pub(super) segments: Vec<SegmentEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approximate: Option<Approximation>,
}

/// A segment: rows that were written together, in a folder of immutable files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentEntry {
    pub(super) number: u64,
    /// Rows, removed ones included.
    pub(super) rows: usize,
    pub(super) files: BTreeMap<String, FileSeal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<RemovedEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) graph: Option<GraphEntry>,
}

/// The graph of a segment: a file for approximate searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphEntry {
    /// How often the graph was built; part of the file's name.
    pub(super) version: u64,
    pub(super) seal: FileSeal,
}

/// The rows of a segment that were removed: a file of one bit per row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovedEntry {
    /// How often rows of the segment were removed; part of the file's name.
    pub(super) version: u64,
    pub(super) rows: usize,
    pub(super) seal: FileSeal,
}

impl SegmentEntry {
    /// The segment's folder in that of the index.
    pub(super) fn folder(number: u64) -> String {
        format!("segment-{number}")
    }
}

impl GraphEntry {
    /// The file's name in the segment's folder.
    pub(super) fn file(version: u64) -> String {
        format!("graph-{version}")
    }
}

impl RemovedEntry {
    /// The file's name in the segment's folder.
    pub(super) fn file(version: u64) -> String {
        format!("removed-{version}")
    }
}

/// The file: the manifest, and the CRC-32 of its JSON text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    crc32: u32,
    #[serde(borrow)]
    index: &'a RawValue,
}

/// What every version of the format states.
#[derive(Deserialize)]
struct Version {
    format: String,
}

impl IndexManifest {
    /// The manifest of an index without rows.
    pub(super) fn new(tower: DocumentTower, dim: usize, vectors: VectorFormat, codes: Vec<Codes>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            tower,
            dim,
            vectors,
            codes,
            next_segment: 0,
            segments: Vec::new(),
            approximate: None,
        }
    }

    /// Reads the manifest of an index.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Err(Error::format(folder, format!("no index: there is no {MANIFEST}")));
        }
        let bytes = read_file(&path)?;
        let not_json =
            |e: serde_json::Error| Error::format(&path, format!("not the manifest of an index: {e}")).with_source(e);
        let sealed: Sealed<'_> = serde_json::from_slice(&bytes).map_err(not_json)?;
        if crc32(sealed.index.get().as_bytes()) != sealed.crc32 {
            return Err(Error::format(&path, "the manifest is damaged: its checksum differs"));
        }
        let Version { format } = serde_json::from_str(sealed.index.get()).map_err(not_json)?;
        if format != FORMAT {
            return Err(Error::format(&path, format!("the format {format} is not known, supported: {FORMAT}")));
        }
        serde_json::from_str(sealed.index.get()).map_err(not_json)
    }

    /// Replaces the manifest: from then on, the index is what it states.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let failed = |e: serde_json::Error| Error::io("write", &path, e.into());
        let index = serde_json::value::to_raw_value(self).map_err(failed)?;
        let sealed = Sealed { crc32: crc32(index.get().as_bytes()), index: &index };
        write_atomic(&path, serde_json::to_vec(&sealed).map_err(failed)?)
    }
}
